"""The pages of Dagster and MLflow: a guard in front of both, and a keeper that ends them with their parent.

Nothing here knows the science. The guard sees every request before Dagster or MLflow does; the keeper holds one
service and everything that the service starts.
"""
