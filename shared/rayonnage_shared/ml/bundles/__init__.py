"""Bundles on the model volume, their manifests, and the champion pointer."""
