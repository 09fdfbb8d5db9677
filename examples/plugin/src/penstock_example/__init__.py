"""An input and a processor for Penstock, from outside of it."""
