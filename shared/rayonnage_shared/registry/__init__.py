"""Which bundle serves, where it came from, and which old ones are removed."""
