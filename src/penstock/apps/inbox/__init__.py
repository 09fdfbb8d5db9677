"""Take rows over HTTP and files from a folder, and keep them in a database: what ``penstock up`` runs."""
