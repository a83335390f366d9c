"""Benchmarks and quality measurements. They are not tests, and no test depends on their results."""
