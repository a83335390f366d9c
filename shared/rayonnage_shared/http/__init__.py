"""How a service's application is built and served."""
