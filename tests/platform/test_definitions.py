import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from paeplatform.config import load_preset
from paeplatform.definitions import build_definitions
from paeplatform.resources.settings import PlatformSettings

TINY = Path(__file__).parent / "tiny.yaml"
EXTERNAL = {dg.AssetKey("raw_release"), dg.AssetKey("cell_exposures")}  # reported, not made
HEAVY = ("jax", "torch", "mlflow", "great_expectations", "matplotlib", "equinox")


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_definitions(PlatformSettings(tmp_path_factory.mktemp("home"), load_preset(TINY)))


def test_the_code_location_is_valid_for_every_packaged_preset(tmp_path: Path) -> None:
    for name in ("demo", "standard", "paper"):
        dg.Definitions.validate_loadable(build_definitions(PlatformSettings(tmp_path, load_preset(name))))
    assert not list(tmp_path.iterdir()), "loading the code location must not write anything"


def test_importing_the_code_location_loads_no_heavy_library(tmp_path: Path) -> None:
    code = (
        "import json, sys, paeplatform.definitions as d; d.defs().resolve_all_asset_keys(); "
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    environment = {**os.environ, "PAEPLATFORM_HOME": str(tmp_path), "PAEPLATFORM_PRESET": str(TINY)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert not list(tmp_path.iterdir())


def test_every_asset_is_grouped_described_versioned_and_has_few_kinds(defs: dg.Definitions) -> None:
    groups = {"sed", "instrument", "mock", "models", "promotion", "release", "inference", "validation"}
    specs = defs.resolve_all_asset_specs()
    assert {spec.group_name for spec in specs} == groups
    for spec in specs:
        assert spec.description, spec.key
        assert 1 <= len(spec.kinds) <= 3, spec.key
        assert spec.code_version or spec.key in EXTERNAL, spec.key


def test_partitions_follow_the_preset_and_the_deliveries(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()

    def partitions(name: str) -> dg.PartitionsDefinition | None:
        return graph.get(dg.AssetKey(name)).partitions_def

    assert partitions("autoencoder").get_partition_keys() == ["4"]
    for name in ("release_photometry", "pae_posteriors", "template_fits", "redshift_catalog"):
        both = partitions(name)
        assert isinstance(both, dg.MultiPartitionsDefinition)
        for dimension in ("release", "cell"):  # both grow with what is delivered
            assert isinstance(
                both.get_partitions_def_for_dimension(dimension), dg.DynamicPartitionsDefinition
            )
    for name in ("photoz_metrics", "missing_band_stress"):
        assert isinstance(partitions(name), dg.DynamicPartitionsDefinition)
    for name in ("pae_model", "posterior_proposal", "frozen_test_set", "pae_evaluation", "pae_promotion"):
        assert partitions(name) is None


def test_the_sensors_are_off_until_switched_on(defs: dg.Definitions) -> None:
    assert {sensor.name for sensor in defs.sensors} == {"release_sensor", "reconcile_sensor"}
    assert {sensor.default_status for sensor in defs.sensors} == {dg.DefaultSensorStatus.STOPPED}


def test_every_quality_rule_is_a_partitioned_check_that_blocks_when_it_is_an_error(
    defs: dg.Definitions,
) -> None:
    from paeplatform.assets.release.quality import check_name
    from paeplatform.release.quality_rules import load_rules

    graph = defs.resolve_asset_graph()
    checks = {key.name: graph.get_check_spec(key) for key in graph.asset_check_keys}
    assert set(checks) == {check_name(rule.name) for rule in load_rules().rules}
    for rule in load_rules().rules:
        check = checks[check_name(rule.name)]
        assert check.blocking == (rule.severity == "error")
        assert check.partitions_def == graph.get(check.asset_key).partitions_def


SAMPLED = {"pae_posteriors", "missing_band_stress", "reweighted_posteriors", "pae_evaluation"}
SAMPLED |= {"sample_pae_posteriors", "sample_chains", "posterior_ranks", "example_posteriors"}
CHANGES = {
    "pae.flow": ({"pae": {"flow": {"jitter": 0.07}}}, {"latent_flow"}),
    "pae.autoencoder": ({"pae": {"autoencoder": {"fit": {"epochs": 4}}}}, {"autoencoder", "model_error"}),
    "model_error": ({"model_error": {"n_galaxies": 9}}, {"model_error"}),
    "proposal": ({"proposal": {"n_bank": 3000}}, {"posterior_proposal"}),
    "mclmc": ({"mclmc": {"n_steps": 250}}, SAMPLED),
    "trust": (
        {"trust": {"ess_min": 50.0}},
        SAMPLED | {"redshift_catalog", "validation_report"},
    ),
    "misfits": (
        {"trust": {"reduced_chi2_max": 3.0}},
        SAMPLED | {"redshift_catalog", "template_fits", "sample_template_fits", "validation_report"},
    ),
    "importance": ({"importance": {"n_rounds": 3}}, SAMPLED),
    "inference": ({"inference": {"method": "mclmc"}}, SAMPLED),
    "prior": ({"prior": {"nf_prior": False}}, SAMPLED | {"inference_prior", "profile_likelihoods"}),
    "prior limits": (
        {"prior": {"z_max": 2.0}},
        SAMPLED
        | {"posterior_proposal", "model_error", "inference_prior", "sbi_model"}
        | {"sample_scores", "profile_likelihoods", "paper_figures"},
    ),
    "template_fit": (
        {"template_fit": {"z_step": 0.25}},
        {"template_fits", "sample_template_fits", "profile_likelihoods"},
    ),
    "stress_test": ({"stress_test": {"min_snr": 9.0}}, {"missing_band_stress"}),
    "validation": (
        {"validation": {"n_bootstrap": 30}},
        {"photoz_metrics", "validation_report"},
    ),
    "depth": (
        {"instrument": {"depth": "inflight"}},
        {"mock_photometry", "mock_delivery", "frozen_test_set", "sbi_model", "posterior_ranks"},
    ),
    "flags": (
        {"release": {"flag_policy": "strict"}},
        {"release_photometry", "release_measurements", "quarantined_sources", "quality_statistics"},
    ),
    "test set": ({"promotion": {"n_sources": 50}}, {"frozen_test_set"}),
    "unseen galaxies": ({"promotion": {"n_unseen": 50}}, {"frozen_test_set"}),
    "visits": ({"release": {"n_visits": 2}}, {"mock_delivery"}),
}


@pytest.mark.parametrize(("change", "touched"), CHANGES.values(), ids=CHANGES.keys())
def test_a_setting_changes_the_code_version_of_the_assets_that_read_it_alone(
    tmp_path: Path, change: dict, touched: set[str]
) -> None:
    def versions(preset) -> dict[str, str]:
        graph = build_definitions(PlatformSettings(tmp_path, preset)).resolve_asset_graph()
        return {key.to_user_string(): graph.get(key).code_version for key in graph.toposorted_asset_keys}

    preset = load_preset(TINY)
    before, after = (
        versions(preset),
        versions(type(preset).model_validate(_merged(preset.model_dump(), change))),
    )
    assert {name for name in before if before[name] != after[name]} == touched


def _merged(tree: dict, change: dict) -> dict:
    return tree | {
        key: _merged(tree[key], value) if isinstance(value, dict) else value for key, value in change.items()
    }
