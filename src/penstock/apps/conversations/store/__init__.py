"""From lines of logs to tables."""
