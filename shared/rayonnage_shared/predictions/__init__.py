"""From a product to a prediction, and the log of what was answered."""
