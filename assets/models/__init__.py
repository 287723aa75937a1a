"""The trained models, from a fit to a registered version."""
