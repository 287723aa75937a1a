"""What the assets stand on: settings, the Dagster instance, table and model storage, the MLflow registry."""
