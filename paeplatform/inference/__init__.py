"""Inference of (u, z) from photometry: forward model, priors, log posterior, MCLMC, diagnostics, summaries."""
