"""The generated catalogue for the demo and the tests."""
