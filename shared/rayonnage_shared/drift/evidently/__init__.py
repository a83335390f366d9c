"""Evidently's report."""
