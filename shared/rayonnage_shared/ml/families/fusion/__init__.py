"""Ways to put the opinions of text and photo together."""
