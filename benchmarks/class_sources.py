"""Sources of the four classes that the classifier has not seen, for `bench_classes` and the tests.

None of them is a point of the classifier's grids. Stars and dwarfs lie between two spectra of neighbouring
temperature, of which the classifier is not given one, behind dust between its steps. Quasars come from formulas of
their own: the break of the disc, the temperature of the dust, the profile and the strength of every single line differ
from the classifier's.
All spectra are multiplied by a smooth random distortion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.photometry import mock_photometry
from paeplatform.classes.library import StarLibrary
from paeplatform.classes.models import band_fluxes
from paeplatform.classes.quasar_lines import H_ALPHA_EW, INFRARED_LINES, IRON_BUMPS, LIGHT_KM_S, LINES
from paeplatform.classes.quasar_spectra import igm_transmission
from paeplatform.config import load_preset
from paeplatform.instrument.bands import BandSet
from paeplatform.sed.dust import attenuation
from paeplatform.sed.grid import rebin
from paeplatform.sed.library import TemplateLibrary, load_library

HOLD_OUT = 4  # every so many-th spectrum is kept from the classifier
STAR_DISTORTION, DWARF_DISTORTION, QUASAR_DISTORTION = 0.03, 0.10, 0.05
SNR_RANGE = (20.0, 500.0)  # total signal-to-noise, even in the logarithm
HOSTS = ("ilbert/S0_A_0", "brown/NGC_4552", "ilbert/Sa_A_0")


@dataclass(frozen=True, eq=False)
class ClassSources:
    """Noisy photometry with its truth.

    Attributes:
        flux, flux_err: (source, band) [uJy].
        kind: class of each source.
        z: redshift; 0 of stars and dwarfs.
        name: template or description.
    """

    flux: np.ndarray
    flux_err: np.ndarray
    kind: np.ndarray
    z: np.ndarray
    name: np.ndarray

    @classmethod
    def joined(cls, parts: list[ClassSources]) -> ClassSources:
        """All sources of some tables."""
        names = ("flux", "flux_err", "kind", "z", "name")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def held_out(names: tuple[str, ...]) -> list[str]:
    """Every `HOLD_OUT`-th name."""
    return list(names[HOLD_OUT // 2 :: HOLD_OUT])


def galaxies(n: int, bands: BandSet, seed: int) -> ClassSources:
    """The first galaxies above the least signal-to-noise of the mock catalogue of another seed."""
    preset = load_preset("standard")
    # a catalogue so much larger has enough bright sources
    catalog_config = preset.catalog.model_copy(update={"n_sources": 36 * n})
    preset = preset.model_copy(update={"seed": preset.seed + seed, "catalog": catalog_config})
    library = load_library()
    catalog = draw_mock_catalog(preset, library)
    rows = mock_photometry(preset, library, bands, catalog.filter(catalog["mag_i"] < 22.5), seed)
    rows = rows.filter(rows["snr"] > SNR_RANGE[0]).head(n)
    if len(rows) < n:
        raise ValueError(f"galaxies: {len(rows)} above a signal-to-noise of {SNR_RANGE[0]:g}, {n} are needed")
    flux, flux_err = (rows[name].to_numpy().astype(np.float64) for name in ("flux", "flux_err"))
    kind = np.full(n, "galaxy")
    return ClassSources(
        flux, flux_err, kind, rows["z_true"].to_numpy(), rows["template"].to_numpy().astype(str)
    )


def stars(library: StarLibrary, kind: str, n: int, bands: BandSet, rng: np.random.Generator) -> ClassSources:
    """Stars or brown dwarfs between a spectrum that is held out and another of the nearest temperature."""
    own = library.of_kind(kind)
    hidden = [own.name.index(name) for name in held_out(own.name)]
    spectra, names = [], []
    for _ in range(n):
        first = int(rng.choice(hidden))
        distance = np.abs(np.log(own.teff / own.teff[first]))
        distance[first] = np.inf
        others = (
            np.flatnonzero(distance <= np.nanmin(distance) + 0.03)
            if np.isfinite(own.teff[first])
            else [first]
        )
        second = int(rng.choice(others))
        share = rng.uniform(0.0, 0.5)
        spectrum = (1.0 - share) * own.flux[first] + share * own.flux[second]
        if kind == "star":
            spectrum = spectrum * attenuation("allen", own.wave, min(rng.exponential(0.3), 2.0) / 3.1)
        size = STAR_DISTORTION if kind == "star" else DWARF_DISTORTION
        spectra.append(spectrum * distortion(own.wave, size, rng))
        names.append(own.name[first])
    flux = band_fluxes(own.wave, np.array(spectra), bands)[0]
    return _observed(flux, kind, np.zeros(n), np.array(names), bands, rng)


def quasars(n: int, bands: BandSet, rng: np.random.Generator) -> ClassSources:
    """Quasars at z = 0.5-5, even in ln(1+z)."""
    z = np.expm1(rng.uniform(np.log(1.5), np.log(6.0), n))
    wave = np.exp(np.arange(np.log(0.065), np.log(5.3), 8e-4))
    library = load_library()
    flux = np.stack(
        [band_fluxes(wave, _quasar(wave, at, library, rng)[None], bands, np.array([at]))[0, 0] for at in z]
    )
    return _observed(flux, "quasar", z, np.full(n, "quasar"), bands, rng)


def _quasar(wave: np.ndarray, z: float, library: TemplateLibrary, rng: np.random.Generator) -> np.ndarray:
    blue, red = -0.45 + 0.3 * rng.normal(), 0.4 + 0.35 * rng.normal()
    at_break, sharpness = rng.uniform(0.34, 0.52), rng.uniform(4.0, 10.0)
    ratio = wave / at_break
    disc = (ratio ** (blue * sharpness) + ratio ** (red * sharpness)) ** (-1.0 / sharpness)
    disc = disc * np.where(wave < 0.11, wave / 0.11, 1.0)
    spectrum, overall, wing = disc.copy(), np.exp(0.45 * rng.normal()), rng.uniform(0.0, 0.5)

    def add(at: float, width: float, speed: float) -> None:
        strength = width * overall * np.exp(0.3 * rng.normal()) * np.interp(at, wave, disc)
        sigma = at * speed / LIGHT_KM_S
        core = np.exp(-0.5 * ((wave - at) / sigma) ** 2) / (np.sqrt(2.0 * np.pi) * sigma)
        lorentz = sigma / np.pi / ((wave - at) ** 2 + sigma**2)
        spectrum[:] += strength * (wave / at) ** 2 * ((1.0 - wing) * core + wing * lorentz)

    broad = rng.uniform(1200.0, 3200.0)
    for at, width, speed in LINES:
        add(at * (1.0 + rng.normal() * 0.001), width, broad if speed > 1000.0 else 400.0)
    for at, share in INFRARED_LINES:
        width = (
            share
            * H_ALPHA_EW
            * (at / 0.6565) ** 2
            * np.interp(0.6565, wave, disc)
            / np.interp(at, wave, disc)
        )
        add(at, width, broad)
    for at, width, sigma in IRON_BUMPS:
        add(at, width, LIGHT_KM_S * sigma * rng.uniform(0.8, 1.3) / at)
    edge = 0.5 * (1.0 - np.tanh((wave - 0.37) / 0.008))
    spectrum += rng.uniform(0.0, 0.25) * edge * (wave / 0.36) ** 1.5 * np.interp(0.36, wave, disc)
    for kelvin, strength in (
        (rng.uniform(1050.0, 1500.0), 4.0),
        (rng.uniform(500.0, 900.0), rng.uniform(0.0, 2.0)),
    ):
        dust = wave**-3.0 / np.expm1(np.minimum(14_387.77 / (wave * kelvin), 600.0))
        peak = 2.0 if kelvin > 1000.0 else 4.0
        spectrum += (
            strength
            * np.exp(0.4 * rng.normal())
            * np.interp(0.55, wave, disc)
            * dust
            / np.interp(peak, wave, dust)
        )
    spectrum *= attenuation("prevot", wave, min(rng.exponential(0.06), 0.4))
    if z < 1.5:
        row = library.name.index(str(rng.choice(HOSTS)))
        host = rebin(library.wave[row], library.flux[row], wave)
        spectrum += rng.uniform(0.0, 0.8) * np.interp(0.9, wave, disc) * host / np.interp(0.9, wave, host)
    return spectrum * distortion(wave, QUASAR_DISTORTION, rng) * igm_transmission(wave, z)


def distortion(wave: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """A random factor around 1, smooth over 15 % of the wavelength, with the standard deviation `size`."""
    nodes = np.arange(np.log(wave[0]) - 0.1, np.log(wave[-1]) + 0.2, 0.1)
    return np.exp(size * np.interp(np.log(wave), nodes, rng.normal(size=len(nodes))))


def _observed(
    flux: np.ndarray, kind: str, z: np.ndarray, name: np.ndarray, bands: BandSet, rng: np.random.Generator
) -> ClassSources:
    depth = bands.depth("mev")
    snr = np.exp(rng.uniform(np.log(SNR_RANGE[0]), np.log(SNR_RANGE[1]), len(flux)))
    flux = flux * (snr / np.sqrt(np.sum((flux / depth) ** 2, axis=1)))[:, None]
    flux_err = np.tile(depth, (len(flux), 1))
    return ClassSources(
        flux + flux_err * rng.normal(size=flux.shape), flux_err, np.full(len(flux), kind), z, name
    )
