"""The command line `rayonnage`."""
