"""Labelled products in, dataset versions out."""
