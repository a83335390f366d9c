"""Proxies in front of a stub service: the gateway, other HTTP clients in its place, nginx and HAProxy."""
