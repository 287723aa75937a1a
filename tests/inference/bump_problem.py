"""`BumpForward` of conftest in float64, written anew: what tests compare with."""

import numpy as np


def numpy_model(forward, u, z):
    """Band fluxes; u (..., 2) and z broadcast."""
    log_wave = forward.log_wave.astype(np.float64)
    rest = log_wave - np.log1p(z)[..., None]
    bump = np.exp(-0.5 * ((rest - 0.1) / 0.15) ** 2)
    slope = np.exp(0.4 * u[..., 0, None] * (log_wave - 1.0))
    return slope * (1.0 + bump * np.exp(0.5 * u[..., 1, None]))


def wave_of(forward):
    """The bands' wavelengths [um]."""
    return np.exp(forward.log_wave.astype(np.float64))
