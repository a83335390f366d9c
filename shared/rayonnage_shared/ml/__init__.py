"""The machine-learning core; it knows no HTTP, queue or orchestrator."""
