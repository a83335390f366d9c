"""Mathematics of the fusion families."""
