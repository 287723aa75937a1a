"""The lines and bumps of a quasar's spectrum: wavelengths and equivalent widths at rest.

Equivalent widths of broad and narrow lines from Lyman alpha to H alpha are those of the median composite of Vanden Berk
et al. 2001 (AJ 122, 549, table 2). The flux of a Paschen line is that of H alpha over 9 (Kim, Im & Kim 2010, ApJ 724,
386: H alpha / Pa alpha = 9.0); other lines of the near infrared have rounded shares of H alpha, which agree with the
spectra of Landt et al. 2008 (ApJS 174, 282) within a factor of two, and Brackett lines follow from case B. Fe II is a
few broad bumps: in the ultraviolet four times the flux of Mg II together (Tsuzuki et al. 2006, ApJ 650, 57), in the
optical 0.65 of H beta on either side of it (the median of Shen & Ho 2014, Nature 513, 210).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

BROAD_KM_S, NARROW_KM_S = 2200.0, 400.0  # standard deviations; both are below a channel's width
LIGHT_KM_S = 299_792.458
H_ALPHA_UM, H_ALPHA_EW = 0.6565, 194.5e-4

# wavelength [um], equivalent width at rest [um], standard deviation [km/s]
LINES = np.array(
    [
        (0.1216, 92.9e-4, BROAD_KM_S),  # Lyman alpha with N V
        (0.1398, 8.1e-4, BROAD_KM_S),  # Si IV, O IV]
        (0.1546, 23.8e-4, BROAD_KM_S),  # C IV
        (0.1906, 21.2e-4, BROAD_KM_S),  # C III]
        (0.2800, 32.3e-4, BROAD_KM_S),  # Mg II
        (0.3729, 1.6e-4, NARROW_KM_S),  # [O II]
        (0.3870, 1.4e-4, NARROW_KM_S),  # [Ne III]
        (0.4103, 5.1e-4, BROAD_KM_S),  # H delta
        (0.4342, 12.6e-4, BROAD_KM_S),  # H gamma
        (0.4863, 46.2e-4, BROAD_KM_S),  # H beta
        (0.4960, 3.5e-4, NARROW_KM_S),  # [O III]
        (0.5008, 13.2e-4, NARROW_KM_S),  # [O III]
        (0.5878, 4.9e-4, BROAD_KM_S),  # He I
        (H_ALPHA_UM, H_ALPHA_EW, BROAD_KM_S),
    ]
)

# wavelength [um], flux over that of H alpha
INFRARED_LINES = np.array(
    [
        (0.8449, 0.05),  # O I
        (0.9533, 0.05),  # Pa epsilon, [S III]
        (1.0052, 0.03),  # Pa delta
        (1.0865, 0.18),  # He I, Pa gamma
        (1.2822, 0.11),  # Pa beta
        (1.8756, 0.11),  # Pa alpha
        (2.1661, 0.02),  # Br gamma
        (2.6259, 0.03),  # Br beta
        (4.0523, 0.05),  # Br alpha
    ]
)

# wavelength [um], equivalent width [um], standard deviation [um]
IRON_BUMPS = np.array(
    [
        (0.2460, 85e-4, 0.0140),
        (0.2750, 25e-4, 0.0070),
        (0.2950, 20e-4, 0.0070),
        (0.4570, 30e-4, 0.0070),
        (0.5270, 30e-4, 0.0120),
    ]
)


def line_spectrum(
    wave_um: Float[np.ndarray, " wave"], continuum: Float[np.ndarray, " wave"]
) -> Float[np.ndarray, " wave"]:
    """f_nu of all lines and bumps at their mean equivalent widths, in the units of `continuum`.

    Args:
        wave_um: rest wavelengths, increasing [um].
        continuum: f_nu of the accretion disc there, which the equivalent widths refer to.

    Returns:
        f_nu, zero far from every line. A line outside of `wave_um` adds next to nothing.
    """
    spectrum = np.zeros_like(wave_um)

    def level(at: float) -> float:
        return float(np.exp(np.interp(np.log(at), np.log(wave_um), np.log(continuum))))

    def add(at: float, width: float, deviation: float) -> None:
        # f_nu = f_lambda lambda^2: a line of equivalent width W adds W f_nu(at) (lambda / at)^2 times its profile
        profile = np.exp(-0.5 * ((wave_um - at) / deviation) ** 2) / (np.sqrt(2.0 * np.pi) * deviation)
        spectrum[:] += width * level(at) * (wave_um / at) ** 2 * profile

    for at, width, speed in LINES:
        add(at, width, at * speed / LIGHT_KM_S)
    h_alpha_flux = H_ALPHA_EW * level(H_ALPHA_UM) / H_ALPHA_UM**2  # per unit wavelength
    for at, share in INFRARED_LINES:
        add(at, share * h_alpha_flux * at**2 / level(at), at * BROAD_KM_S / LIGHT_KM_S)
    for at, width, deviation in IRON_BUMPS:
        add(at, width, deviation)
    return spectrum
