"""Rates and sizes behind `paeplatform plan-capacity` that no other benchmark gives: ingestion, reweighting, bytes.

One cell of simulated sources goes through the functions that the assets call. Rates are by the CPU time of all
threads together, so of one core, whatever else the machine does; a worker of two cores does that at least. Numbers in
tables of posteriors are random, so that they compress less than real ones would: the sizes are upper bounds.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.timing import figure
from paeplatform.inference.model.priors import UniformPrior, prior_to_dict
from paeplatform.inference.results.pz_summary import redshift_columns
from paeplatform.inference.results.reweight import reweight_table
from paeplatform.instrument.bands import load_bands
from paeplatform.release.binning import bin_exposures, measurement_table
from paeplatform.release.flags import reject_mask
from paeplatform.release.manifest import load_manifest
from paeplatform.release.rows import set_aside
from paeplatform.release.simulated.delivery import DeliverySpec, write_delivery
from paeplatform.release.simulated.sky import TemplateSky
from paeplatform.release.splitting import split_delivery
from paeplatform.release.statistics import cell_statistics
from paeplatform.sed.dust import DUST_LAWS
from paeplatform.sed.library import TemplateLibrary, load_library

N_SOURCES, N_DRAWS, ORDER, CELL = 2000, 500, 6, 27256


def run() -> list[dict[str, Any]]:
    """Sources an hour and bytes a source, of tables as the platform keeps them."""
    bands, rng = load_bands(), np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        library = load_library()
        sources, sky, spec = _sources(library, rng), TemplateSky(library), DeliverySpec("r1", n_visits=3)
        began = time.process_time()
        write_delivery(sources, bands, base / "r1", spec, sky=sky, progress=False)
        written = time.process_time() - began
        manifest = load_manifest(base / "r1")
        began = time.process_time()
        split = split_delivery(base / "r1", manifest, base / "cells", ORDER, progress=False)
        cut = time.process_time() - began
        path = Path(split.cells.sort("n_rows")["path"][-1])
        rejected = reject_mask(_policy())

        def photometry() -> tuple[pl.DataFrame, pl.DataFrame]:
            rows, quarantined = set_aside(pl.read_parquet(path, glob=False), manifest, bands)
            made = bin_exposures(rows, bands, rejected, CELL, quarantined)
            cell_statistics(rows, made, quarantined, bands, rejected)
            return made, measurement_table(rows, made, rejected)

        made, measurements = photometry()
        n = made.height
        binned = _cpu_seconds(photometry)
        posteriors, other = _posteriors(rng)
        moved = _cpu_seconds(lambda: reweight_table(posteriors, _old(), other))
        columns = [name for name in posteriors.columns if name != "pae_z_draws"]
        joined = made.select("object_id", "ra", "dec", "cell", "snr")
        catalogue = posteriors.head(n).select(columns).with_columns(object_id=joined["object_id"])

        def catalog() -> None:
            table = joined
            for name in ("pae", "tf", "sbi"):
                names = {one: one.replace("pae_", f"{name}_") for one in columns if one.startswith("pae_")}
                part = catalogue.select("object_id", *names).rename(names)
                table = table.join(part, on="object_id", validate="1:1", maintain_order="left")
            table.write_parquet(base / "catalog.parquet")

        together = _cpu_seconds(catalog)
        sizes = {
            "cell_exposures": path.stat().st_size / n,
            "release_photometry": _size(made, base / "p.parquet"),
            "release_measurements": _size(measurements, base / "m.parquet"),
            "pae_posteriors": _size(posteriors, base / "a.parquet"),
            "reweighted_posteriors": _size(reweight_table(posteriors, _old(), other), base / "w.parquet"),
            "template_fits": _size(posteriors.select(columns), base / "t.parquet"),
            "sbi_posteriors": _size(posteriors.select(columns), base / "s.parquet"),
            "redshift_catalog": (base / "catalog.parquet").stat().st_size / n,
        }
    total = cut * n / N_SOURCES + binned
    return [
        figure("sources", n, "", None, None),
        figure("simulated_per_core_hour", 3600 * N_SOURCES / written, "1/core/h", None, None, more=True),
        figure("photometry_per_core_hour", 3600 * n / total, "1/core/h", None, None, more=True),
        figure("reweighting_per_core_hour", 3600 * N_SOURCES / moved, "1/core/h", None, None, more=True),
        figure("catalogue_per_core_hour", 3600 * n / together, "1/core/h", None, None, more=True),
        *(figure(f"bytes_{name}", size, "B/source", None, None) for name, size in sizes.items()),
    ]


def _cpu_seconds(work: Callable[[], object]) -> float:
    """Least CPU time of two calls [s], after one that compiles."""
    work()
    times = []
    for _ in range(2):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def _policy() -> Any:
    from paeplatform.config import load_preset

    return load_preset("standard").release.flag_policy


def _sources(library: TemplateLibrary, rng: np.random.Generator) -> pl.DataFrame:
    """Galaxies of all templates and brightnesses, inside one cell."""
    from astropy import units
    from astropy_healpix import healpix_to_lonlat

    lon, lat = healpix_to_lonlat(CELL, 2**ORDER, order="nested")
    return pl.DataFrame(
        {
            "ra": float(lon.to_value(units.deg)) + rng.uniform(-0.2, 0.2, N_SOURCES),
            "dec": float(lat.to_value(units.deg)) + rng.uniform(-0.2, 0.2, N_SOURCES),
            "template_index": rng.integers(0, len(library), N_SOURCES),
            "dust_law": rng.integers(0, len(DUST_LAWS), N_SOURCES),
            "ebv": rng.uniform(0.0, 0.5, N_SOURCES),
            "z_true": rng.uniform(0.05, 1.5, N_SOURCES),
            "mag_i": rng.uniform(19.0, 22.5, N_SOURCES),
        }
    )


def _old() -> UniformPrior:
    return UniformPrior(0.001, 3.0)


def _posteriors(rng: np.random.Generator) -> tuple[pl.DataFrame, UniformPrior]:
    """Draws of a width of 0.05 (1 + z), and the prior that they are moved to."""
    centre = rng.uniform(0.2, 1.5, (N_SOURCES, 1))
    z = np.clip(centre + 0.05 * (1 + centre) * rng.standard_normal((N_SOURCES, N_DRAWS)), 0.002, 2.9)
    summary = redshift_columns(z, np.full(z.shape, 1.0 / N_DRAWS), z_min=0.001, z_max=3.0, prefix="pae")
    for name in ("multimodal", "at_edge"):
        summary.pop(name)
    columns = {"object_id": np.arange(N_SOURCES)}
    table = pl.DataFrame(columns).with_columns(
        *(
            pl.Series(
                name,
                np.asarray(values, np.float32),
                dtype=pl.Array(pl.Float32, np.asarray(values).shape[1])
                if np.asarray(values).ndim == 2
                else pl.Float32,
            )
            for name, values in summary.items()
        ),
        pl.Series("pae_z_draws", z.astype(np.float32), dtype=pl.Array(pl.Float32, N_DRAWS)),
        pae_ess=pl.lit(400.0, pl.Float32),
        z_flags=pl.lit(0, pl.Int32),
        pae_prior=pl.lit(str(prior_to_dict(_old()))),
    )
    return table, UniformPrior(0.001, 2.5)


def _size(table: pl.DataFrame, path: Path) -> float:
    table.write_parquet(path)
    return path.stat().st_size / table.height
