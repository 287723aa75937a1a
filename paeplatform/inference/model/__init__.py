"""The model that is inferred: forward model, priors, log posterior, and the draws of it."""
