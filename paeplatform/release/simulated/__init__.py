"""Simulated deliveries, good ones and ones with a named defect."""
