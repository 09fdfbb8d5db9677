"""The page of keys, sessions and the audit: its files, served as they are."""
