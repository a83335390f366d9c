"""Calibrated probabilities and decision thresholds."""
