"""Where batches go: one file per ``type``."""
