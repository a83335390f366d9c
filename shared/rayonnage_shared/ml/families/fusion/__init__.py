"""Ways to put the outputs of text and photo together."""
