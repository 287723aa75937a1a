"""Methods side by side: each judged by its own p(z), all on the same sources."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from paeplatform.config import load_preset
from paeplatform.errors import InputError
from paeplatform.inference.pz_summary import QUANTILE_LEVELS
from paeplatform.validation.comparison import METHODS, compare_methods

PRESET = load_preset("demo")
SCATTER = {"pae": 0.02, "sbi": 0.05, "tf": 0.05}
QUOTED = {"pae": 0.02, "sbi": 0.05, "tf": 0.01}  # template fitting is overconfident by five


def catalog(n: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(2)
    z_true = rng.uniform(0.3, 2.0, n)
    columns: dict[str, object] = {
        "object_id": np.arange(n),
        "z_true": z_true,
        "mag_z": rng.uniform(19.0, 22.5, n),
    }
    for method in METHODS:
        mean = z_true + SCATTER[method] * rng.standard_normal(n)
        quantiles = stats.norm.ppf(QUANTILE_LEVELS[None], mean[:, None], QUOTED[method])
        columns |= {
            f"{method}_z_mean": mean,
            f"{method}_z_std": np.full(n, QUOTED[method]),
            f"{method}_z_quantiles": pl.Series(quantiles, dtype=pl.Array(pl.Float64, len(QUANTILE_LEVELS))),
            f"{method}_status": ["converged"] * n,
        }
    return pl.DataFrame(columns)


def row(table: pl.DataFrame, method: str, selection: str = "all") -> dict:
    return table.filter(method=method, selection=selection).row(0, named=True)


def test_each_method_is_judged_by_its_own_posteriors() -> None:
    table = compare_methods(catalog(), PRESET)
    assert table.height == 6
    assert row(table, "pae")["nmad_usual"] < 0.6 * row(table, "sbi")["nmad_usual"]
    assert row(table, "sbi")["coverage_68"] == pytest.approx(0.68, abs=0.08)
    assert row(table, "tf")["coverage_68"] < 0.3
    for method in METHODS:
        one = row(table, method)
        assert one["nmad_usual_low"] <= one["nmad_usual"] <= one["nmad_usual_high"]


def test_only_sources_that_all_methods_answer_count() -> None:
    table = catalog()
    missing = pl.when(pl.int_range(pl.len()) < 100).then(None).otherwise(pl.col("sbi_z_mean"))
    rows = compare_methods(table.with_columns(missing.alias("sbi_z_mean")), PRESET)
    assert rows.filter(selection="all")["n"].to_list() == [300] * 3
    bright = int((table[100:]["mag_z"] < 20.0).sum())
    assert rows.filter(selection="zAB < 20")["n"].to_list() == [bright] * 3


def test_a_sample_without_bright_sources_gives_nulls_for_them() -> None:
    faint = catalog().with_columns(mag_z=pl.lit(22.0))
    one = row(compare_methods(faint, PRESET), "pae", "zAB < 20")
    assert one["n"] == 0 and one["nmad_paper"] is None


def test_a_missing_method_is_named() -> None:
    with pytest.raises(InputError, match="sbi_z_mean"):
        compare_methods(catalog().drop("sbi_z_mean"), PRESET)
