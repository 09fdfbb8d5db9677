"""The files of the console, served as they are."""
