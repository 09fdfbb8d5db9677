"""The API of conversations."""
