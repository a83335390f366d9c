"""What every Rayonnage service shares."""
