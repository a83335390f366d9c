"""The right category of a prediction, as users report it."""
