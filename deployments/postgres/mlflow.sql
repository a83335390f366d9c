-- MLflow's tables stand apart from the platform's, on the same server.
CREATE DATABASE mlflow;
