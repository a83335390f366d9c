"""Promotion, rollback and retention of bundles."""
