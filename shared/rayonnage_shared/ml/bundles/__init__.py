"""Bundles on the model volume, and the champion pointer."""
