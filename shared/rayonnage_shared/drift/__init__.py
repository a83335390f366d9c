"""Drift: whether products and predictions still resemble those that the champion was evaluated on."""
