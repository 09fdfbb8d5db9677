"""The HTTP API of the health service."""
