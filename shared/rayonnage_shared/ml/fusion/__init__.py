"""The methods behind the fusion families."""
