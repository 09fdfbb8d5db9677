"""Logs, metrics and health pages."""
