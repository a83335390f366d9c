"""Training and parameter search, from a dataset to a promotion."""
