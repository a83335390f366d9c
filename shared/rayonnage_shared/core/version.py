"""The version of Rayonnage. It is written here alone; every pyproject.toml reads it, and `make release` raises it."""

VERSION = "0.1.0"
