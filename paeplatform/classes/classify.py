"""What each source of a table is: galaxy, quasar, star or brown dwarf.

The probability of a class is its evidence (`evidence`) times the number of its sources on the sky (`counts`), over the
sum of all classes. `class_best` is the most probable class, with two exceptions:

| class_best | meaning |
|---|---|
| none | no class with a probability of at least 1 % has a model that fits (`inference.results.status.misses_data`) |
| null | no usable band, a flux that is not finite, or no evidence of the galaxy |

A fit here is lenient: chi^2 contains the error of the class's models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from paeplatform.classes.counts import (
    DEFAULT_LATITUDE_DEG,
    class_counts,
    galactic_latitude,
    galaxy_redshift_density,
    reference_magnitude,
)
from paeplatform.classes.evidence import ClassEvidence, class_evidence
from paeplatform.classes.grid import CLASSES, ClassGrid
from paeplatform.classes.library import StarLibrary
from paeplatform.classes.models import galaxy_grid, quasar_grid, star_grid
from paeplatform.config import DEFAULT_TRUST, TrustConfig
from paeplatform.errors import ConfigError
from paeplatform.inference.results.status import misses_data
from paeplatform.instrument.bands import BandSet
from paeplatform.source_columns import check_sources, nullable, usable_sources

BATCH = 32  # sources at a time: 13 MB of likelihoods of quasars
POSSIBLE = 0.01  # probability from which a class's fit counts
N_GALAXY_PARAMETERS = 12  # of a galaxy of the PAE: ten latents, redshift, amplitude
CLASS_NAMES = (*CLASSES, "none")


@dataclass(frozen=True, eq=False)
class GalaxyEvidence:
    """What another method says of the galaxy hypothesis, on the scale of `evidence`.

    Attributes:
        log_evidence: ln of the mean of L over the prior of the shape and of the redshift, where ln L = -1/2 sum
            (d - A m)^2 / V - 1/2 sum ln (V / sigma^2) with A profiled, as `LogPosterior` of the channels has it with
            `amplitude = "profile"` and with its model error. NaN where it is not known.
        chi2: sum (d - A m)^2 / V of the best galaxy.
        n_parameters: that the best galaxy was chosen by.
    """

    log_evidence: Float[np.ndarray, " source"]
    chi2: Float[np.ndarray, " source"]
    n_parameters: int = N_GALAXY_PARAMETERS


@dataclass(frozen=True, eq=False)
class Classifier:
    """The models of the classes; `load_classifier` makes it, and it may be used for any number of tables.

    Attributes:
        bands: the channels of the photometry.
        grids: by name of the class; `galaxy` may be missing where the evidence of the galaxy is always given.
    """

    bands: BandSet
    grids: dict[str, ClassGrid]


@dataclass(frozen=True, eq=False)
class Positions:
    """J2000 positions [deg] of sources; NaN where unknown."""

    ra_deg: Float[np.ndarray, " source"]
    dec_deg: Float[np.ndarray, " source"]


def load_classifier(
    bands: BandSet, stars: StarLibrary | None = None, *, galaxies: ClassGrid | bool = False
) -> Classifier:
    """Integrates the models of all classes over the channels; takes some seconds.

    Args:
        bands: the channels.
        stars: spectra of stars and brown dwarfs; None for the packaged ones.
        galaxies: True adds the galaxies of template fitting (`models.galaxy_grid`), a grid adds that one, False leaves
            the galaxy to `GalaxyEvidence`.
    """
    grids = {
        "quasar": quasar_grid(bands),
        "star": star_grid(bands, stars, "star"),
        "brown_dwarf": star_grid(bands, stars, "brown_dwarf"),
    }
    if galaxies:
        grids["galaxy"] = galaxy_grid(bands) if isinstance(galaxies, bool) else galaxies
    return Classifier(bands, grids)


def classify(
    classifier: Classifier,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    object_id: np.ndarray,
    *,
    galaxy: GalaxyEvidence | None = None,
    positions: Positions | None = None,
    trust: TrustConfig = DEFAULT_TRUST,
) -> pl.DataFrame:
    """The probability of each class for each source.

    Args:
        classifier: models of the classes.
        flux: [uJy] in the classifier's channels; measurements at their own wavelengths come as
            `instrument.measurements.channel_means(...).at_centres`. Negative values are legal.
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        object_id: (source,) integers.
        galaxy: evidence of the galaxy hypothesis; None for the classifier's own galaxies.
        positions: for the density of stars; None for a Galactic latitude of 45 deg.
        trust: the limits of a misfit.

    Returns:
        One row a source, in the order given: object_id; class_best (see the top of this module); for each class
        class_p_<class> (f32, they sum to 1), class_ln_evidence_<class> (f64) and class_chi2_<class> (f32); the best
        quasar's redshift class_z_quasar with the 68 % interval class_z_quasar_low and class_z_quasar_high (f32), never
        narrower than the grid's step of 0.006 (1+z) allows; class_star and class_brown_dwarf, the name of the best
        spectrum of each; class_mag, the AB magnitude near 1.2 um that the prior was taken at (f32).

    Raises:
        BandSetError: flux or flux_err are not (source, band) for the classifier's channels.
        ConfigError: object_id, galaxy or positions have another length, a declination is out of range, or the evidence
            of the galaxy is neither given nor in the classifier.
    """
    flux, flux_err, object_id = (
        np.asarray(flux, np.float64),
        np.asarray(flux_err, np.float64),
        np.asarray(object_id),
    )
    n_source = len(flux)
    check_sources(flux, flux_err, len(classifier.bands), object_id)
    if galaxy is None and "galaxy" not in classifier.grids:
        raise ConfigError("galaxy: give the evidence of the galaxy, or a classifier with galaxies")
    lengths = {} if galaxy is None else {"galaxy": (galaxy.log_evidence, galaxy.chi2)}
    if positions is not None:
        lengths["positions"] = (positions.ra_deg, positions.dec_deg)
    for name, parts in lengths.items():
        if {np.shape(part) for part in parts} != {(n_source,)}:
            raise ConfigError(f"{name}: {[np.shape(part) for part in parts]} must be {n_source} numbers each")
    usable, good = usable_sources(flux, flux_err)
    latitude = (
        np.full(n_source, DEFAULT_LATITUDE_DEG)
        if positions is None
        else galactic_latitude(positions.ra_deg, positions.dec_deg)
    )
    mag = reference_magnitude(flux, flux_err, usable, classifier.bands)
    found = {
        name: _evidence(grid, flux, flux_err, usable, good, mag) for name, grid in classifier.grids.items()
    }
    log_evidence = {name: part.log_evidence for name, part in found.items()}
    chi2 = {name: part.chi2 for name, part in found.items()}
    n_parameters = {name: grid.n_parameters for name, grid in classifier.grids.items()}
    if galaxy is not None:
        log_evidence["galaxy"] = np.where(good, galaxy.log_evidence, np.nan)
        chi2["galaxy"] = np.where(good, galaxy.chi2, np.nan)
        n_parameters["galaxy"] = galaxy.n_parameters
    known = good & np.isfinite(log_evidence["galaxy"])
    evidence = np.stack([log_evidence[name] for name in CLASSES], axis=1)
    probability = _probabilities(evidence, np.where(known, mag, np.nan), latitude)
    fits = np.stack(
        [~misses_data(chi2[name], usable.sum(axis=1), n_parameters[name], trust) for name in CLASSES], axis=1
    )
    best = np.where((fits & (probability >= POSSIBLE)).any(axis=1), probability.argmax(axis=1), len(CLASSES))
    quasar = np.where(good[:, None], found["quasar"].z, np.nan)
    columns: dict[str, pl.Series | np.ndarray] = {
        "object_id": object_id.astype(np.int64),
        "class_best": pl.Series(
            [CLASS_NAMES[i] if ok else None for i, ok in zip(best, known, strict=True)], dtype=pl.String
        ),
    }
    columns |= {f"class_p_{name}": nullable(probability[:, place]) for place, name in enumerate(CLASSES)}
    columns |= {f"class_ln_evidence_{name}": pl.Series(log_evidence[name]).fill_nan(None) for name in CLASSES}
    columns |= {f"class_chi2_{name}": nullable(chi2[name]) for name in CLASSES}
    places = ("class_z_quasar", "class_z_quasar_low", "class_z_quasar_high")
    columns |= {name: nullable(quasar[:, place]) for place, name in enumerate(places)}
    for name in ("star", "brown_dwarf"):
        labels = classifier.grids[name].labels
        names = [labels[i] if ok else None for i, ok in zip(found[name].best_group, good, strict=True)]
        columns[f"class_{name}"] = pl.Series(names, dtype=pl.String)
    columns["class_mag"] = nullable(np.where(good, mag, np.nan))
    return pl.DataFrame(columns)


def _evidence(
    grid: ClassGrid,
    flux: np.ndarray,
    flux_err: np.ndarray,
    usable: np.ndarray,
    good: np.ndarray,
    mag: np.ndarray,
) -> ClassEvidence:
    """Of all sources, a batch at a time; NaN and 0 where a source is not good."""
    # the weights of the galaxies are even in z, of which the range is given back
    span = float(grid.z[-1] - grid.z[0])
    n_source = len(flux)
    evidence = ClassEvidence(
        log_evidence=np.full(n_source, np.nan),
        chi2=np.full(n_source, np.nan),
        best_group=np.zeros(n_source, np.int64),
        best_model=np.zeros(n_source, np.int64),
        z=np.full((n_source, 3), np.nan),
    )
    chosen = np.flatnonzero(good)
    for first in range(0, len(chosen), BATCH):
        rows = chosen[first : first + BATCH]
        prior = np.log(galaxy_redshift_density(grid.z, mag[rows]) * span) if grid.name == "galaxy" else None
        part = class_evidence(grid, flux[rows], flux_err[rows], usable[rows], prior)
        for name in ("log_evidence", "chi2", "best_group", "best_model", "z"):
            getattr(evidence, name)[rows] = getattr(part, name)
    return evidence


def _probabilities(
    log_evidence: Float[np.ndarray, "source 4"], mag: np.ndarray, latitude: np.ndarray
) -> Float[np.ndarray, "source 4"]:
    """Normalised over the classes; NaN for a source without a magnitude."""
    known = np.isfinite(mag)
    with np.errstate(divide="ignore"):
        prior = np.log(class_counts(np.where(known, mag, 20.0), latitude))
    log_p = np.where(known[:, None], log_evidence + prior, 0.0)
    p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return np.where(known[:, None], p / p.sum(axis=1, keepdims=True), np.nan)
