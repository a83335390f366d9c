"""Bring MLflow and DVC up to date with the volumes."""
