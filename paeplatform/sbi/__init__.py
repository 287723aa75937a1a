"""Simulation-based inference: photometry to p(z) in one pass of a network (paper section VII)."""
