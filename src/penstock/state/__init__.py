"""Where positions are kept: one file per store."""
