-- MLflow has a database of its own, on the same server as the platform's.
CREATE DATABASE mlflow;
