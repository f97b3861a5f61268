"""Measurements of the package beside its rivals: ``python -m benchmarks NAME``."""
