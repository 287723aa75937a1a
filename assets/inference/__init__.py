"""Posteriors, template fits and the redshift catalogue, cell by cell."""
