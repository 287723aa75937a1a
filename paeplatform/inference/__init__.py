"""Inference of (u, z) from 102-band photometry: forward model, priors, log posterior, MCLMC, diagnostics, summaries."""
