-- Airflow's tables stand apart from the platform's, on the same server. Run each time the profile `airflow` starts: a server
-- that has data already does not run the scripts of its first start.
SELECT 'CREATE DATABASE airflow' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'airflow')
\gexec
