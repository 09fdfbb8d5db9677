"""Who may do what, and how often: keys, limits and the audit."""
