"""One set of limits: read from the preset, and refused where it stood before."""

import polars as pl
import pytest
import yaml

from paeplatform.config import DEFAULT_TRUST, TrustConfig, load_preset
from paeplatform.errors import ConfigError
from paeplatform.outputs.flags import CatalogFlag, catalog_flags


def preset_file(tmp_path, **sections):
    tree = load_preset("demo").model_dump(mode="json")
    for name, changes in sections.items():
        tree[name] |= changes
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_the_limits_come_from_the_preset(tmp_path):
    assert load_preset("demo").trust == DEFAULT_TRUST
    assert load_preset(preset_file(tmp_path, trust={"ess_min": 400.0})).trust == TrustConfig(ess_min=400.0)


def test_the_old_place_of_a_limit_is_an_unknown_key(tmp_path):
    with pytest.raises(ConfigError, match=r"importance\.ess_min: unknown key"):
        load_preset(preset_file(tmp_path, importance={"ess_min": 50.0}))


@pytest.mark.parametrize(
    ("limit", "value"),
    [("rhat_max", 1.0), ("khat_max", 0.0), ("tail_probability_min", 1.0), ("bands_min", 0)],
)
def test_a_limit_that_nothing_could_meet_is_refused(tmp_path, limit, value):
    with pytest.raises(ConfigError, match=rf"trust\.{limit}"):
        load_preset(preset_file(tmp_path, trust={limit: value}))


def test_catalogue_flags_follow_the_limits():
    row = pl.DataFrame(
        {
            "pae_z_mean": [0.5], "pae_z_std": [0.01], "pae_rhat": [None], "pae_khat": [0.6], "pae_ess": [300.0],
            "pae_binning_chi2": [0.1],
            "pae_path": ["proposal"], "pae_moved": ["no"], "z_flags": [0],
            "tf_z_mean": [0.5], "tf_z_std": [0.01], "sbi_z_mean": [0.5], "sbi_z_std": [0.01], "sbi_status": ["ok"],
            "n_used": [306], "n_masked": [0], "n_set_aside": [0],
        },
        schema_overrides={"pae_rhat": pl.Float64},
    )  # fmt: skip
    assert catalog_flags(row, DEFAULT_TRUST).to_list() == [0]
    strict = TrustConfig(ess_min=400.0, khat_max=0.5)
    both = CatalogFlag.LOW_ESS | CatalogFlag.NOT_CONVERGED
    assert catalog_flags(row, strict).to_list() == [int(both)]
