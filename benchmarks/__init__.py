"""Measurements that the documents cite; each runs as ``python -m benchmarks.NAME`` from the project's root."""
