"""Bright galaxies of the mock catalogue as a user's export has them, and files of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from paeplatform.config import load_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.release.schema import EXPOSURE_SCHEMA, source_id
from paeplatform.release.simulated.delivery import DeliverySpec, exposures
from paeplatform.release.simulated.sky import TemplateSky
from paeplatform.scores.evaluate import draw_bright_sources
from paeplatform.sed.library import load_library

N_GALAXIES = 4
SNR = (30.0, 150.0)  # total, of all visits together
SEED = 77  # of the catalogue: none that a model was trained with


@cache
def bright_galaxies() -> pl.DataFrame:
    """The truth of some galaxies, with object_id as `intake` makes it from their positions."""
    preset = load_preset("demo")
    catalog = preset.catalog.model_copy(update={"n_sources": 20_000})
    preset = preset.model_copy(update={"seed": SEED, "catalog": catalog})
    found = draw_bright_sources(preset, load_library(), load_bands(), 100, SNR[0], progress=False)
    chosen = found.filter(pl.col("snr") < SNR[1]).head(N_GALAXIES)
    identity = source_id(chosen["ra"].to_numpy(), chosen["dec"].to_numpy())
    return chosen.with_columns(pl.Series("object_id", identity))


@cache
def exported() -> pl.DataFrame:
    """The 21 columns of the tool's export of them: one visit of each channel, each at a wavelength of its own."""
    spec = DeliverySpec("mock", n_visits=1, seed=3)
    sky = TemplateSky(load_library())
    return exposures(bright_galaxies(), load_bands(), spec, sky).select(list(EXPOSURE_SCHEMA))


def galaxy(number: int) -> pl.DataFrame:
    """The rows of one galaxy."""
    one = bright_galaxies().row(number, named=True)
    return exported().filter(pl.col("ra") == one["ra"], pl.col("dec") == one["dec"])


def write_foreign(rows: pl.DataFrame, path: Path) -> Path:
    """One galaxy as a table of another maker: other names, detectors as D3, its position in the comments."""
    table = rows.select(
        "mjd",
        wavelength="lambda",
        bandwidth="lambda_width",
        flux="flux",
        flux_error="flux_err",
        flag="flags",
        band=pl.format("D{}", pl.col("det_id")),
    )
    position = f"# RA = {rows['ra'][0]!r} deg\n# Dec = {rows['dec'][0]!r} deg\n"
    path.write_text(f"# forced photometry\n{position}{table.write_csv()}")
    return path


def packed(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a galaxy, with its measurements as lists and a label."""
    measured = rows.with_columns(
        pl.col("det_id").cast(pl.Int64), wavelength=pl.col("lambda"), width=pl.col("lambda_width")
    )
    columns = ["wavelength", "width", "flux", "flux_err", "flags", "det_id", "mjd", "data_collection"]
    table = measured.group_by("ra", "dec", maintain_order=True).agg(pl.col(columns))
    return table.with_columns(label=pl.format("galaxy {}", pl.int_range(pl.len())))


def reddened(rows: pl.DataFrame, ebv_mw: float) -> pl.DataFrame:
    """The same galaxies behind dust of the Milky Way, by the law that `intake.corrections` takes off again."""
    from paeplatform.intake.corrections import milky_way_k

    loss = 10.0 ** (-0.4 * ebv_mw * milky_way_k(rows["lambda"].to_numpy()))
    return rows.with_columns(pl.col("flux") * loss, pl.col("flux_err") * loss, ebv_mw=pl.lit(ebv_mw))


def sorted_by_id(table: pl.DataFrame) -> pl.DataFrame:
    """Answers in an order that does not depend on that of the file."""
    return table.sort("object_id")


def apart(table: pl.DataFrame, other: pl.DataFrame) -> np.ndarray:
    """By how much the medians of two tables of the same sources differ, in the first's standard deviation."""
    assert table["object_id"].equals(other["object_id"])
    shift = table["pae_z_median"].to_numpy() - other["pae_z_median"].to_numpy()
    return np.abs(shift) / table["pae_z_std"].to_numpy()
