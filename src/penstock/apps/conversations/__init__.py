"""Keep, find and count what people and their coding agents said to each other."""
