"""An application for Penstock, from outside of it."""
