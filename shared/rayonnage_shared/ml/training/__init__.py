"""Train a bundle from a dataset."""
