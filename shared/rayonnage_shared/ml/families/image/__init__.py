"""Photo families."""
