"""Measure what Penstock promises, beside what the same machine can do at best: ``python -m benchmarks``."""
