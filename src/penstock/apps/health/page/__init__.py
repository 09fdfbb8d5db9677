"""The page for the person whose data it is."""
