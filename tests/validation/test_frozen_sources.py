"""The two parts of the frozen test set, and the validation sample that begins with the first."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from paeplatform.config import Preset, load_preset
from paeplatform.instrument.bands import BandSet, load_bands
from paeplatform.scores.evaluate import draw_bright_sources
from paeplatform.scores.frozen_sources import COLUMNS, draw_test_sources, draw_validation_sample, unseen_seed
from paeplatform.sed.library import TemplateLibrary, load_library
from tests.small_reference import TINY


@pytest.fixture(scope="module")
def preset() -> Preset:
    return load_preset(TINY)


@pytest.fixture(scope="module")
def library() -> TemplateLibrary:
    return load_library()


@pytest.fixture(scope="module")
def bands() -> BandSet:
    return load_bands()


@pytest.fixture(scope="module")
def table(preset: Preset, library: TemplateLibrary, bands: BandSet) -> pl.DataFrame:
    return draw_test_sources(preset, library, bands)


def test_the_known_part_is_what_the_whole_set_was_before(
    preset: Preset, library: TemplateLibrary, bands: BandSet, table: pl.DataFrame
) -> None:
    frozen = preset.model_copy(update={"seed": preset.promotion.test_seed})
    before = draw_bright_sources(frozen, library, bands, 24, 0.0, progress=False).select(COLUMNS)
    assert table.head(24).drop("part").equals(before) and set(table["part"].head(24)) == {"known"}


def test_the_unseen_part_is_of_composites_of_another_catalogue(preset: Preset, table: pl.DataFrame) -> None:
    unseen, known = table.tail(12), table.head(24)
    assert table.height == 36 and set(unseen["part"]) == {"unseen"}
    assert unseen["template"].str.starts_with("composite/").all()
    assert not known["template"].str.contains("composite").any()
    assert table["object_id"].n_unique() == table.height and unseen["object_id"].min() > 1_000_000_000
    assert not set(unseen["z_true"]) & set(known["z_true"])
    assert (unseen["mag_z"] < preset.release.mag_z_max).all()
    assert np.isfinite(unseen["flux"].to_numpy()).all() and (unseen["flux_err"].to_numpy() > 0.0).all()
    assert unseen_seed(preset) not in (preset.promotion.test_seed, preset.seed)


def test_the_seed_of_trainings_changes_nothing(
    preset: Preset, library: TemplateLibrary, bands: BandSet, table: pl.DataFrame
) -> None:
    other = preset.model_copy(update={"seed": preset.seed + 7})
    assert draw_test_sources(other, library, bands).equals(table)
    fewer = preset.model_copy(update={"promotion": preset.promotion.model_copy(update={"n_unseen": 5})})
    assert draw_test_sources(fewer, library, bands).equals(table.head(29))


@pytest.mark.parametrize("n", [12, 24, 40])
def test_the_validation_sample_is_of_known_galaxies_alone(
    preset: Preset, library: TemplateLibrary, bands: BandSet, table: pl.DataFrame, n: int
) -> None:
    tables = preset.tables.model_copy(update={"n_sources": n})
    sample = draw_validation_sample(preset.model_copy(update={"tables": tables}), library, bands, table)
    assert tuple(sample.columns) == COLUMNS and sample.height == n
    assert sample.head(min(n, 24)).equals(table.head(min(n, 24)).drop("part"))
    assert not sample["template"].str.contains("composite").any()
