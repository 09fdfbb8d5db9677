"""Take what the app Health Auto Export sends, and keep every point of it."""
