"""The application that keeps users, keys and the audit."""
