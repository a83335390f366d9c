"""The job queue in the database."""
