"""What holds or regroups batches before the pipeline: one file per ``type``."""
