"""Storing rows, and accounting for each of them."""
