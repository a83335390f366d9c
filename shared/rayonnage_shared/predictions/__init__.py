"""Inference for one product, and the prediction log."""
