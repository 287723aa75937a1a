"""The frozen test set: mock sources that every registered model is judged on and none is trained on; and the validation
sample, which begins with them.
"""

from __future__ import annotations

import polars as pl

from paeplatform.config import Preset
from paeplatform.instrument.bands import BandSet
from paeplatform.scores.evaluate import draw_bright_sources
from paeplatform.sed.library import TemplateLibrary

COLUMNS = ("object_id", "z_true", "mag_z", "template", "galaxy_type", "snr", "flux", "flux_err")


def draw_test_sources(preset: Preset, library: TemplateLibrary, bands: BandSet) -> pl.DataFrame:
    """Sources as bright as a release's, from a catalogue and with noise of a seed of their own.

    Training depends on `preset.seed`, this on `preset.promotion.test_seed` alone, so a platform trained anew with
    another seed is judged on the same sources. The templates are those that trainings draw from as well.

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


def draw_validation_sample(
    preset: Preset, library: TemplateLibrary, bands: BandSet, test_set: pl.DataFrame
) -> pl.DataFrame:
    """The sources of the paper's tables: the frozen test set, cut to or continued to `tables.n_sources`.

    Args:
        preset: uses tables.n_sources, and for further sources what `draw_test_sources` uses.
        library: the templates.
        bands: channels and depths.
        test_set: of `draw_test_sources`.

    Returns:
        `COLUMNS`; fewer sources than asked for when the catalogue has no more.

    Raises:
        InputError: the catalogue has no source bright enough.
    """
    n = preset.tables.n_sources
    if n <= test_set.height:
        return test_set.head(n).select(COLUMNS)
    more = preset.model_copy(update={"promotion": preset.promotion.model_copy(update={"n_sources": n})})
    return draw_test_sources(more, library, bands)
