"""What the classification says of 3,000 sources that it has not seen.

They are 2,400 galaxies, 200 quasars, 300 stars and 100 dwarfs with a total signal-to-noise above 20; `class_sources`
says how they are made. The evidence of the galaxy is that of template fitting (`models.galaxy_grid`) without every
fourth of the 160 templates, so that a fourth of the galaxies is of templates that the classifier does not have.

Quasars are even in ln(1+z) within z = 0.5-5, which makes many of them more distant than those of the sky. Figures with
`_sky` weight them by the p(z) of known quasars (`models.QUASAR_Z_LAW`). With `--seed N` other sources are drawn.

With PAEPLATFORM_BENCH_CLASSES_PAE=1, or `--pae`, the evidence of the galaxy is that of the PAE that ships, as users get
it, which knows all 160 templates. That takes some twenty minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.class_sources import ClassSources, galaxies, held_out, quasars, stars
from benchmarks.timing import figure, less_is_better
from paeplatform.answers.quick import estimator_of
from paeplatform.classes.classify import classify, load_classifier
from paeplatform.classes.library import load_stars
from paeplatform.classes.models import QUASAR_Z_LAW, galaxy_grid
from paeplatform.classes.of_posteriors import classified as classified_beside
from paeplatform.inference.batches.runtime import enable_compile_cache
from paeplatform.instrument.bands import load_bands
from paeplatform.sed.library import load_library

NUMBERS = {"galaxy": 2400, "quasar": 200, "star": 300, "brown_dwarf": 100}
WITH_PAE = os.environ.get("PAEPLATFORM_BENCH_CLASSES_PAE", "0") == "1"


def run(seed: int = 1, numbers: dict[str, int] = NUMBERS, with_pae: bool = WITH_PAE) -> list[dict[str, Any]]:
    """Draws the sources, classifies them and compares; a minute on two idle cores."""
    sources, table, seconds = classified(seed, numbers, with_pae)
    best, kind = table["class_best"].to_numpy(), sources.kind
    compact = np.isin(kind, ("star", "brown_dwarf"))
    galaxy, quasar = kind == "galaxy", kind == "quasar"
    hidden = galaxy & np.isin(sources.name, held_out(load_library().name))
    error = np.abs(table["class_z_quasar"].to_numpy() - sources.z) / (1.0 + sources.z)
    confident = table.select(pl.max_horizontal(pl.col("^class_p_.*$"))).to_series().to_numpy() > 0.99
    right = best == kind
    a, b, c = QUASAR_Z_LAW
    z = sources.z[quasar]
    on_sky = z**a * np.exp(-((z / b) ** c)) * (1.0 + z)
    return [
        _share("stars_and_dwarfs_not_called_galaxies", best[compact] != "galaxy", 0.98),
        _share("stars_called_stars", best[kind == "star"] == "star"),
        _share("dwarfs_called_dwarfs", best[kind == "brown_dwarf"] == "brown_dwarf"),
        _share("quasars_not_called_galaxies", best[quasar] != "galaxy", 0.95),
        _share("quasars_called_quasars", best[quasar] == "quasar"),
        _share("quasar_redshifts_within_0.02", error[quasar] < 0.02, 0.8),
        _share("quasars_not_called_galaxies_sky", best[quasar] != "galaxy", weight=on_sky),
        _share("quasar_redshifts_within_0.02_sky", error[quasar] < 0.02, weight=on_sky),
        _share("galaxies_lost", best[galaxy] != "galaxy", 0.01, more=False),
        _share("galaxies_lost_known_templates", best[galaxy & ~hidden] != "galaxy", more=False),
        _share("galaxies_lost_unknown_templates", best[hidden] != "galaxy", more=False),
        _share("called_none", best == "none", more=False),
        _share("right_where_p_above_0.99", right[confident]),
        less_is_better("classes_time", 1e3 * seconds / len(sources.flux), "ms a source", None, None),
    ]


def classified(
    seed: int, numbers: dict[str, int], with_pae: bool = False
) -> tuple[ClassSources, pl.DataFrame, float]:
    """(sources, their classification, how long it took [s] beside the posteriors)."""
    bands, library, rng = load_bands(), load_stars(), np.random.default_rng(seed)
    sources = ClassSources.joined(
        [
            galaxies(numbers["galaxy"], bands, 1_000_000 + seed),
            quasars(numbers["quasar"], bands, rng),
            stars(library, "star", numbers["star"], bands, rng),
            stars(library, "brown_dwarf", numbers["brown_dwarf"], bands, rng),
        ]
    )
    hidden = [name for kind in ("star", "brown_dwarf") for name in held_out(library.of_kind(kind).name)]
    known_stars = library.without(hidden)
    object_id = np.arange(len(sources.flux))
    if with_pae:
        classifier = load_classifier(bands, known_stars)
        enable_compile_cache(Path.home() / ".cache" / "paeplatform" / "jax")
        estimator = estimator_of()
        posteriors, draws = estimator.estimate_with_draws(sources.flux, sources.flux_err, object_id)
        start = time.perf_counter()
        table = classified_beside(
            classifier,
            estimator.posterior,
            posteriors,
            draws,
            [estimator.channel_sources(sources.flux, sources.flux_err, object_id)],
            trust=estimator.preset.trust,
        )
        return sources, table, time.perf_counter() - start
    templates = load_library()
    known = templates.without(held_out(templates.name))
    classifier = load_classifier(bands, known_stars, galaxies=galaxy_grid(bands, known))
    classify(classifier, sources.flux[:32], sources.flux_err[:32], object_id[:32])  # squares of the fluxes
    start = time.perf_counter()
    table = classify(classifier, sources.flux, sources.flux_err, object_id)
    return sources, table, time.perf_counter() - start


def _share(
    name: str,
    values: np.ndarray,
    target: float | None = None,
    *,
    more: bool = True,
    weight: np.ndarray | None = None,
) -> dict[str, Any]:
    share = float(np.average(values, weights=weight))
    return figure(name, share, f"of {len(values)}", target, None, more=more)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Classifies sources that the classifier has not seen.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pae", action="store_true", help="evidence of the galaxy from the PAE that ships")
    given = parser.parse_args()
    print(json.dumps(run(given.seed, with_pae=given.pae or WITH_PAE), indent=1))
