"""The frozen test set: mock sources that every registered model is judged on and none is trained on; and the validation
sample, which begins with them.
"""

from __future__ import annotations

import polars as pl

from paeplatform.catalog.mock import classify_templates
from paeplatform.config import Preset
from paeplatform.instrument.bands import BandSet
from paeplatform.scores.evaluate import draw_bright_sources
from paeplatform.scores.promotion_rules import KNOWN, UNSEEN
from paeplatform.sed.composites import composite_library
from paeplatform.sed.library import TemplateLibrary

COLUMNS = ("object_id", "z_true", "mag_z", "template", "galaxy_type", "snr", "flux", "flux_err")
UNSEEN_ID = 1_000_000_000  # what object_id of unseen galaxies begins above; no catalogue is so long


def draw_test_sources(preset: Preset, library: TemplateLibrary, bands: BandSet) -> pl.DataFrame:
    """The frozen test set: known galaxies, then unseen ones.

    Training depends on `preset.seed`, this on `preset.promotion.test_seed` alone, so a platform trained anew with
    another seed is judged on the same sources.

    Args:
        preset: see `draw_known_sources` and `draw_unseen_sources`.
        library: the templates.
        bands: channels and depths.

    Returns:
        `COLUMNS` and `part`, "known" or "unseen"; no object_id occurs twice.

    Raises:
        InputError: a catalogue has no source bright enough.
    """
    parts = {
        KNOWN: draw_known_sources(preset, library, bands),
        UNSEEN: draw_unseen_sources(preset, library, bands),
    }
    return pl.concat([table.with_columns(part=pl.lit(part)) for part, table in parts.items()])


def draw_known_sources(preset: Preset, library: TemplateLibrary, bands: BandSet) -> pl.DataFrame:
    """Sources as bright as a release's, from a catalogue and with noise of a seed of their own.

    Their templates are those that trainings draw from as well.

    Args:
        preset: uses promotion, catalog, release.mag_z_max, instrument.depth and templates.dust_laws.
        library: the templates.
        bands: channels and depths.

    Returns:
        `COLUMNS` of at most promotion.n_sources sources, in catalogue order.

    Raises:
        InputError: the catalogue has no source bright enough.
    """
    frozen = preset.model_copy(update={"seed": preset.promotion.test_seed})
    sources = draw_bright_sources(frozen, library, bands, preset.promotion.n_sources, 0.0, progress=False)
    return sources.select(COLUMNS)


def draw_unseen_sources(preset: Preset, library: TemplateLibrary, bands: BandSet) -> pl.DataFrame:
    """Sources as `draw_known_sources` gives them, of another catalogue, whose spectra no training makes.

    Each template is replaced by a composite galaxy (`sed.composites`). The catalogue draws magnitude, redshift and
    more dust for these as it does for templates, by the types that the composites have.

    Args:
        preset: uses promotion, catalog, release.mag_z_max, instrument.depth and templates.dust_laws.
        library: the templates.
        bands: channels and depths.

    Returns:
        `COLUMNS` of at most promotion.n_unseen sources, in catalogue order, with object_id above `UNSEEN_ID`.

    Raises:
        InputError: the catalogue has no source bright enough.
    """
    seed = unseen_seed(preset)
    frozen = preset.model_copy(update={"seed": seed})
    composites = composite_library(library, classify_templates(library), seed)
    sources = draw_bright_sources(frozen, composites, bands, preset.promotion.n_unseen, 0.0, progress=False)
    return sources.select(COLUMNS).with_columns(pl.col("object_id") + UNSEEN_ID)


def unseen_seed(preset: Preset) -> int:
    """The seed of the unseen galaxies: of their recipes, their catalogue and their noise."""
    return preset.promotion.test_seed + 1


def draw_validation_sample(
    preset: Preset, library: TemplateLibrary, bands: BandSet, test_set: pl.DataFrame
) -> pl.DataFrame:
    """The sources of the paper's tables: the known galaxies of the test set, cut to or continued to `tables.n_sources`.

    Args:
        preset: uses tables.n_sources, and for further sources what `draw_known_sources` uses.
        library: the templates.
        bands: channels and depths.
        test_set: of `draw_test_sources`.

    Returns:
        `COLUMNS`; fewer sources than asked for when the catalogue has no more.

    Raises:
        InputError: the catalogue has no source bright enough.
    """
    n = preset.tables.n_sources
    known = test_set.filter(pl.col("part") == KNOWN)
    if n <= known.height:
        return known.head(n).select(COLUMNS)
    more = preset.model_copy(update={"promotion": preset.promotion.model_copy(update={"n_sources": n})})
    return draw_known_sources(more, library, bands)
