"""Evaluate a bundle: metrics, reports, plots and the promotion gate."""
