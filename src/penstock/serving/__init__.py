"""HTTP listeners: one for each address, shared by everything in this process that serves there."""
