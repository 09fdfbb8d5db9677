"""From stored lines to a lake, a warehouse and its models."""
