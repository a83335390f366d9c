"""The interface of model families, and what they share."""
