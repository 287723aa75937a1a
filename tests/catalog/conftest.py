"""The packaged library, the bands and a small catalogue, made once for the tests of this folder."""

from __future__ import annotations

import polars as pl
import pytest

from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.config import Preset, load_preset
from paeplatform.instrument.bands import BandSet, load_bands
from paeplatform.sed.library import TemplateLibrary, load_library


@pytest.fixture(scope="session")
def library() -> TemplateLibrary:
    return load_library()


@pytest.fixture(scope="session")
def bands() -> BandSet:
    return load_bands()


@pytest.fixture(scope="session")
def preset() -> Preset:
    """The demo preset with a catalogue of 6,000 and 3,000 plain training spectra, in row groups of 256."""
    demo = load_preset("demo")
    return demo.model_copy(
        update={
            "catalog": demo.catalog.model_copy(update={"n_sources": 6000}),
            "training_set": demo.training_set.model_copy(
                update={"n_spectra": 3000, "chunk_size": 256, "mixed_share": 0.0, "hot_dust_share": 0.0}
            ),
            "release": demo.release.model_copy(update={"sources_per_cell": 20}),
        }
    )


@pytest.fixture(scope="session")
def catalog(preset: Preset, library: TemplateLibrary) -> pl.DataFrame:
    return draw_mock_catalog(preset, library)
