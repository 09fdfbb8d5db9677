"""The logs of agents, each in a format of its own, read as one: an adapter for each format, found as plugins are."""
