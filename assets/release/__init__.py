"""Deliveries, photometry of cells, and the quality gate."""
