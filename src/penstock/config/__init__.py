"""Configurations: files with their lines, the value they describe, its JSON Schema and its reference pages."""
