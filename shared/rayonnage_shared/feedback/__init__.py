"""The true categories of predictions, as users report them."""
