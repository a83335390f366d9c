-- Airflow has a database of its own, on the same server as the platform's. This runs each time the profile `airflow` starts,
-- since PostgreSQL runs initialisation scripts only at its first start.
SELECT 'CREATE DATABASE airflow' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'airflow')
\gexec
