"""Applications made of streams."""
