"""Photometric redshifts of SPHEREx galaxies with a probabilistic autoencoder: the science of the platform.

Knows nothing of Dagster or MLflow; `assets`, `resources` and `sensors` beside this package do. Importing it
costs nothing.
"""

__version__ = "0.1.0"
