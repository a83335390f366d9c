"""MLflow: runs, registered versions and metrics of the API."""
