"""Takes an embedded home along to PostgreSQL and object storage: runs, events, models, artifacts, tables.

The source is only read. Files go first, each skipped when it has arrived; then each database in one transaction, which
also writes down that it is done. So what was interrupted is begun again by the same command and does no step twice.
"""

from paeplatform.resources.migration.whole import StepDone, migrate

__all__ = ["StepDone", "migrate"]
