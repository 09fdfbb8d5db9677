"""Connections shared by the inputs and outputs of one system."""
