"""The API of the platform: streams and their state, users, keys, sessions, the audit and dead letters."""
