"""Tables of an installation, read by people: places, pages by key, facets, statistics, files and SQL."""
