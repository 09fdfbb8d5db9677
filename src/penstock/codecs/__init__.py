"""How payloads become rows and rows payloads: one file per ``type``."""
