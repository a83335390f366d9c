"""What every model has in common."""
