"""What happens to each batch: one file per ``type``."""
