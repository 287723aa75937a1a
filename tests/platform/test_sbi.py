"""SBI in the graph: trained, registered, judged, applied and in the catalogue."""

import dagster as dg
import numpy as np
import polars as pl
import pytest

from paeplatform.assets.inference.estimation import EstimationInputs
from paeplatform.assets.inference.sbi_estimation import load_sbi_version
from paeplatform.assets.models.sbi import sbi_assets
from paeplatform.assets.recording.tables import bands_from, photometry_at_centres
from paeplatform.config import Preset, load_preset
from paeplatform.resources.registry import SBI
from paeplatform.resources.workspace import Workspace
from paeplatform.sbi.bundle import load_sbi
from tests.platform.conftest import CELLS, TINY, Platform


def posteriors(platform: Platform) -> pl.DataFrame:
    return pl.concat([platform.table(f"sbi_posteriors/mock-r1/{cell}") for cell in CELLS])


def test_the_trained_network_is_registered_with_its_inputs_and_curves(platform: Platform) -> None:
    champion = platform.registry.by_alias(SBI)
    assert champion.version == 1
    assert {"content", "preset", "library_hash", "band_hash"} <= set(champion.tags)
    run = platform.registry.client().get_run(champion.run_id)
    assert {"train_loss", "validation_loss", "ks_z", "nmad_paper"} <= set(run.data.metrics)
    assert run.data.params["sbi.encoder.width"] == "16"


def test_the_catalogue_has_the_redshifts_of_the_champion(platform: Platform) -> None:
    table, catalog = posteriors(platform), platform.catalog()
    joined = catalog.join(table, on="object_id", suffix="_alone", maintain_order="left")
    assert joined.height == catalog.height == 12
    assert (catalog["sbi_version"] == 1).all() and catalog["sbi_z_mean"].null_count() == 0
    np.testing.assert_array_equal(joined["sbi_z_mean"].to_numpy(), joined["sbi_z_mean_alone"].to_numpy())
    model, _ = load_sbi(platform.registry.artifact(platform.registry.by_alias(SBI), "sbi"))
    low, high = (np.float32(limit) for limit in model.z_limits)
    quantiles = catalog["sbi_z_quantiles"].to_numpy()
    assert quantiles.min() >= low - 1e-6 and quantiles.max() <= high + 1e-6


def test_the_registered_model_answers_as_the_asset_did(platform: Platform) -> None:
    import mlflow
    import pandas as pd

    photometry = platform.table(f"release_photometry/mock-r1/{CELLS[0]}")
    columns = photometry_at_centres(photometry, bands_from(platform.table("spherex_bands")))
    names = ("flux", "flux_err", "object_id")
    request = pd.DataFrame({name: list(values) for name, values in zip(names, columns, strict=True)})
    platform.registry.client()  # points MLflow at this home
    answer = mlflow.pyfunc.load_model(f"models:/{SBI}@champion").predict(request)
    stored = platform.table(f"sbi_posteriors/mock-r1/{CELLS[0]}")
    for name in ("sbi_z_mean", "sbi_z_std", "sbi_z_median"):
        np.testing.assert_allclose(answer[name].astype(float), stored[name].to_numpy(), rtol=1e-5)


def test_a_model_for_other_bands_is_refused(platform: Platform) -> None:
    bands = platform.table("spherex_bands")
    other = bands.with_columns(pl.col("wave_um") * 1.001)
    workspace = Workspace.from_settings(platform.settings)
    inputs = EstimationInputs(platform.settings.preset, other, None, platform.registry, workspace)
    with pytest.raises(dg.Failure, match="trained for other bands"):
        load_sbi_version(inputs)


@pytest.mark.parametrize(
    ("change", "train", "infer"),
    [
        ({"sbi": {"fit": {"learning_rate": 1e-4}}}, True, False),
        ({"sbi": {"bank": {"brightness": "importance"}}}, True, False),
        ({"release": {"mag_z_max": 21.0}}, True, False),
        ({"sbi": {"summaries": "samples"}}, False, True),
        ({"sbi": {"device": "cpu", "batch_size": 7}}, False, False),
        ({"mclmc": {"n_burnin": 77}}, False, False),
    ],
)
def test_settings_make_stale_what_they_decide(change: dict, train: bool, infer: bool) -> None:
    preset = load_preset(TINY)
    before, after = _versions(preset), _versions(changed(preset, change))
    assert [old != new for old, new in zip(before, after, strict=True)] == [train, infer]


def _versions(preset: Preset) -> list[str | None]:
    """Code versions of training and posteriors."""
    known = {key: code for asset in sbi_assets(preset) for key, code in asset.code_versions_by_key.items()}
    return [known[dg.AssetKey(name)] for name in ("sbi_model", "sbi_posteriors")]


def changed(preset: Preset, change: dict) -> Preset:
    tree = preset.model_dump(mode="json")
    tree["promotion"]["rules"] = None

    def merge(into: dict, values: dict) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                merge(into[key], value)
            else:
                into[key] = value

    merge(tree, change)
    return Preset.model_validate(tree)
