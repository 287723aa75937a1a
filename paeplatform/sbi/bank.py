"""The training bank: noiseless photometry of perturbed copies of the mock catalogue's bright sources.

Redshift and E(B-V) are perturbed as in the training set of the autoencoder (`catalog.training_set`), and the i
magnitude too: number counts that rise exponentially keep their slope under that. With `exchange_seds` a copy wears
template, dust law and E(B-V) of another source of its type: bright sources are few, and a network that has met each
under its own template alone takes the template for the redshift. A copy counts when it is as bright as a release's
sources are, by its own z magnitude, so that p(z) is that of the release's selection.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from tqdm import tqdm

from paeplatform.catalog.broadband import HSC_I, HSC_Z, BroadBandSynthesiser
from paeplatform.catalog.photometry import noiseless_fluxes, select_release
from paeplatform.catalog.streams import Stream, stream_rng
from paeplatform.catalog.training_set import Z_FLOOR, reflect
from paeplatform.config import Preset
from paeplatform.errors import ConfigError
from paeplatform.instrument.bands import BandSet
from paeplatform.sed.library import TemplateLibrary

FAINT_MARGIN = 1.0  # mag: sources so much fainter than the limit can be scattered across it
N_BRIGHTNESS_BINS = 5
N_SNR_BINS = 40
MAX_ROUNDS = 10_000


@dataclass(frozen=True)
class TrainingBank:
    """What SBI trains on.

    Attributes:
        flux: (n, n_band) float32 noiseless [uJy].
        z: (n,) float32.
        mag_z: (n,) float32 [AB].
        source_id: (n,) `object_id` of the source that each is a copy of.
    """

    flux: np.ndarray
    z: np.ndarray
    mag_z: np.ndarray
    source_id: np.ndarray

    def __len__(self) -> int:
        return len(self.z)


def build_bank(
    preset: Preset, library: TemplateLibrary, bands: BandSet, catalog: pl.DataFrame, *, progress: bool = True
) -> TrainingBank:
    """Draws the bank of `sbi.bank.n_sources` copies.

    Args:
        preset: uses `seed`, `sbi.bank`, `training_set`, `catalog`, `release` and the prior's limits.
        library: the templates the catalogue was drawn with.
        bands: the channels.
        catalog: of `draw_mock_catalog`.
        progress: shows a bar.

    Raises:
        ConfigError: no source is bright enough, or none is left beside those of the release.
    """
    base = _base(preset, catalog)
    copies = _copies(preset, library, base, catalog)
    n = len(copies)
    flux = np.empty((n, len(bands)), dtype=np.float32)
    columns = (copies[name].to_numpy() for name in ("template_index", "dust_law", "ebv", "z", "mag_i"))
    *seds, z, mag_i = columns
    with tqdm(total=n, desc="SBI bank", unit="", unit_scale=True, disable=not progress) as bar:
        for rows, fluxes in noiseless_fluxes(library, bands, seds, z, mag_i):
            flux[rows] = fluxes
            bar.update(len(fluxes))
    return TrainingBank(
        flux, z.astype(np.float32), copies["mag_z"].to_numpy(), copies["source_id"].to_numpy()
    )


def _base(preset: Preset, catalog: pl.DataFrame) -> pl.DataFrame:
    limit = preset.release.mag_z_max
    base = catalog.filter(pl.col("mag_z") < limit + FAINT_MARGIN).sort("object_id")
    if preset.sbi.bank.leave_out_release:
        judged = select_release(preset, catalog)["object_id"]
        base = base.filter(~pl.col("object_id").is_in(judged.implode()))
    if not (base["mag_z"] < limit).any():
        raise ConfigError(
            f"SBI's training bank: no source of {len(catalog)} is brighter than release.mag_z_max {limit} "
            "and not of the release; set sbi.bank.leave_out_release to false, or draw a larger catalogue"
        )
    return base


def _copies(
    preset: Preset, library: TemplateLibrary, base: pl.DataFrame, catalog: pl.DataFrame
) -> pl.DataFrame:
    """Rounds over the base, each source once in each, until enough copies are bright enough."""
    cfg, bank, limit = preset.training_set, preset.sbi.bank, preset.release.mag_z_max
    synthesiser = BroadBandSynthesiser(library, bands=(HSC_I, HSC_Z))
    z_true, mag_i, object_id = (base[name].to_numpy() for name in ("z_true", "mag_i", "object_id"))
    z_min, z_max = max(preset.prior.z_min, Z_FLOOR), preset.prior.z_max
    # Fainter sources are more, so that more are scattered brighter than the other way (Eddington): undone in the mean.
    drift = preset.catalog.counts_slope * np.log(10.0) * bank.delta_mag**2
    parts, found = [], 0
    for number in range(MAX_ROUNDS):
        if found >= bank.n_sources:
            break
        rng = stream_rng(preset.seed, Stream.SBI_BANK, number)
        noise = rng.standard_normal((3, len(base)))
        seds = _seds_of_same_type(base, catalog, rng) if bank.exchange_seds else base
        template_index, dust_law, ebv = (
            seds[name].to_numpy() for name in ("template_index", "dust_law", "ebv")
        )
        z = z_true + cfg.delta_z * (1.0 + z_true) * noise[0]
        z = np.maximum(reflect(z, 0.0, preset.catalog.z_max), Z_FLOOR)
        reddening = reflect(ebv + cfg.delta_ebv * noise[1], 0.0, preset.catalog.ebv_max)
        magnitude = mag_i + bank.delta_mag * noise[2] + drift
        magnitude = preset.catalog.mag_i_min + np.abs(magnitude - preset.catalog.mag_i_min)
        flux = synthesiser.fluxes(template_index, dust_law, reddening, z)
        mag_z = magnitude - 2.5 * np.log10(flux[:, 1] / flux[:, 0])
        order = rng.permutation(len(base))
        keep = order[((mag_z < limit) & (z >= z_min) & (z <= z_max))[order]]
        parts.append(
            pl.DataFrame(
                {
                    "source_id": object_id[keep],
                    "template_index": template_index[keep],
                    "dust_law": dust_law[keep],
                    "ebv": reddening[keep],
                    "z": z[keep],
                    "mag_i": magnitude[keep],
                    "mag_z": mag_z[keep].astype(np.float32),
                }
            )
        )
        found += len(keep)
    if found < bank.n_sources:
        raise ConfigError(
            f"SBI's training bank: {found} of {bank.n_sources} copies after {MAX_ROUNDS} rounds"
        )
    return pl.concat(parts)[: bank.n_sources]


def _seds_of_same_type(base: pl.DataFrame, catalog: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """For each source of `base`, the row of a source drawn from those of its type in the whole catalogue."""
    kind, wanted = catalog["galaxy_type"].to_numpy(), base["galaxy_type"].to_numpy()
    row = np.empty(len(base), dtype=np.int64)
    for name in np.unique(wanted):
        members, here = np.flatnonzero(kind == name), wanted == name
        row[here] = members[rng.integers(len(members), size=int(here.sum()))]
    return catalog[row]


def brightness_bins(mag_z: np.ndarray) -> np.ndarray:
    """Quintile of brightness, (n,) from 1, the faintest fifth, to 5, the brightest."""
    rank = np.argsort(np.argsort(-np.asarray(mag_z), kind="stable"), kind="stable")
    return 1 + rank * N_BRIGHTNESS_BINS // max(len(rank), 1)


def sampling_weights(mag_z: np.ndarray, brightness: str) -> np.ndarray | None:
    """How often each source is drawn, mean 1 (paper section VII); None where all are drawn alike.

    `flat` gives every quintile the same share. Quintiles of the bank itself have that already, so it draws as
    `catalog` does; `importance` gives them shares that rise as the square of the bin's number.
    """
    if brightness != "importance":
        return None
    weight = brightness_bins(mag_z).astype(np.float64) ** 2
    return weight / weight.mean()


@dataclass(frozen=True)
class SeenWeight:
    """What weight a source gets on average, by its observed SNR alone.

    A loss whose weights depend on nothing but the observed photometry has the same best p(z | photometry) as one
    without weights; one that is drawn by true brightness has not, for brightness tells of redshift. Drawn with weight w
    and weighted by `seen(SNR) / w`, bright sources keep their larger share and p(z) is the catalogue's.

    Attributes:
        ln_snr: (node,) ascending.
        weight: (node,).
    """

    ln_snr: np.ndarray
    weight: np.ndarray

    def __call__(self, ln_snr: np.ndarray) -> np.ndarray:
        """The weight at observed ln SNR, linear between nodes."""
        return np.interp(ln_snr, self.ln_snr, self.weight)


def seen_weight(ln_snr: np.ndarray, weight: np.ndarray) -> SeenWeight:
    """Means of `weight` in bins of observed ln SNR with the same number of sources each.

    Args:
        ln_snr: (n,) of noisy photometry.
        weight: (n,) of `sampling_weights`.
    """
    groups = np.array_split(np.argsort(ln_snr, kind="stable"), min(N_SNR_BINS, len(ln_snr)))
    return SeenWeight(*(np.array([values[group].mean() for group in groups]) for values in (ln_snr, weight)))
