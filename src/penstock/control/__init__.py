"""The control plane of one process: HTTP routes for its streams, their operations and the configuration."""
