"""Logging, tracing and HTTP metrics."""
