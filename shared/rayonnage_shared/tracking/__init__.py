"""MLflow: what it is told of bundles and of the API's traffic, and how."""
