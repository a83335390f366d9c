"""Labelled products: reading, checking, storing and splitting them."""
