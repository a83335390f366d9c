"""Training jobs, the worker that runs them, promotion and rollback."""
