"""Request and response bodies, one definition each, used by services, gateway and CLI alike."""
