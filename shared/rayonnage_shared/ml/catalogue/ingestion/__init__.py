"""Labelled products in, the next dataset version out."""
