"""Tokens, who may do what, and bounds on hostile input."""
