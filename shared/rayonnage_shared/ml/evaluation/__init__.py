"""How good a model is: figures, reports and pictures."""
