"""Errors, settings, the process list, host facts and files."""
