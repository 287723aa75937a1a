"""The training bank: its photometry is the exact one, its population the release's, its test sources nobody's."""

import numpy as np
import polars as pl
import pytest

from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.photometry import mock_photometry, select_release
from paeplatform.config import load_preset
from paeplatform.errors import ConfigError
from paeplatform.instrument.bands import load_bands
from paeplatform.sbi.bank import build_bank
from paeplatform.sed.library import load_library

LIBRARY, BANDS = load_library(), load_bands()


def preset_with(n: int = 1500, **bank):
    preset = load_preset("demo")
    sections = {
        "catalog": preset.catalog.model_copy(update={"n_sources": 12000}),
        "sbi": preset.sbi.model_copy(
            update={"bank": preset.sbi.bank.model_copy(update={"n_sources": n, **bank})}
        ),
        "release": preset.release.model_copy(update={"sources_per_cell": 20}),
    }
    return preset.model_copy(update=sections)


CATALOG = draw_mock_catalog(preset_with(), LIBRARY)


def bank_of(preset, **kwargs):
    return build_bank(preset, LIBRARY, BANDS, kwargs.get("catalog", CATALOG), progress=False)


def test_unperturbed_copies_have_the_photometry_of_the_mock() -> None:
    preset = preset_with(300, delta_mag=0.0, exchange_seds=False)
    narrow = preset.training_set.model_copy(update={"delta_z": 1e-12, "delta_ebv": 1e-12})
    preset = preset.model_copy(update={"training_set": narrow})
    bank = bank_of(preset)
    rows = pl.DataFrame({"object_id": bank.source_id}).join(CATALOG, on="object_id", maintain_order="left")
    exact = mock_photometry(preset, LIBRARY, BANDS, rows, 1)["flux_true"].to_numpy()
    np.testing.assert_allclose(bank.flux, exact, rtol=1e-4)
    np.testing.assert_allclose(bank.z, rows["z_true"].to_numpy(), rtol=1e-5)
    np.testing.assert_allclose(bank.mag_z, rows["mag_z"].to_numpy(), atol=1e-3)


def test_the_population_is_that_of_the_release() -> None:
    bank = bank_of(preset_with(6000))
    bright = CATALOG.filter(pl.col("mag_z") < 22.5)
    assert (bank.mag_z < 22.5).all() and len(bank) == 6000
    for levels in (0.25, 0.5, 0.75):
        assert np.quantile(bank.z, levels) == pytest.approx(bright["z_true"].quantile(levels), abs=0.05)
        assert np.quantile(bank.mag_z, levels) == pytest.approx(bright["mag_z"].quantile(levels), abs=0.08)
    # more copies than sources, and no two alike
    assert len(np.unique(bank.source_id)) < 6000 and len(np.unique(bank.z)) > 5990


def test_the_release_is_left_out_when_asked() -> None:
    preset = preset_with(6000)
    judged = set(select_release(preset, CATALOG)["object_id"])
    assert judged and not judged & set(bank_of(preset).source_id.tolist())
    assert judged & set(bank_of(preset_with(6000, leave_out_release=False)).source_id.tolist())


def test_a_bank_repeats_itself_and_begins_with_the_smaller_one() -> None:
    first, again, larger = (bank_of(preset_with(n)) for n in (1000, 1000, 2500))
    np.testing.assert_array_equal(first.flux, again.flux)
    np.testing.assert_array_equal(first.z, larger.z[:1000])


def test_a_catalogue_without_bright_sources_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"brighter than release.mag_z_max 22.5"):
        bank_of(preset_with(leave_out_release=False), catalog=CATALOG.filter(pl.col("mag_z") > 22.6))
