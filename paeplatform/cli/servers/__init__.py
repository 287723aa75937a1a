"""Commands that serve: the pages of Dagster and MLflow, and p(z) over HTTP."""
