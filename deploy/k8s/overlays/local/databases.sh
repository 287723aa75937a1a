#!/bin/sh
# Run once by PostgreSQL's image, on an empty volume: a role and a database each for Dagster and MLflow.
set -eu
psql -v ON_ERROR_STOP=1 -v dagster="$DAGSTER_PG_PASSWORD" -v mlflow="$MLFLOW_PG_PASSWORD" -U "$POSTGRES_USER" <<'SQL'
CREATE ROLE dagster LOGIN PASSWORD :'dagster';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE dagster OWNER dagster;
CREATE DATABASE mlflow OWNER mlflow;
SQL
