"""The console: one page over everything that runs here."""
