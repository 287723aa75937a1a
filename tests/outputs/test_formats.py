"""Exports are read back by the libraries that their users have."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table
from scipy import stats

from paeplatform.errors import InputError
from paeplatform.inference.pz_summary import QUANTILE_LEVELS
from paeplatform.outputs.columns import describe
from paeplatform.outputs.flags import CatalogFlag, catalog_flags, in_words
from paeplatform.outputs.formats import FORMATS, export
from paeplatform.release.schema import source_id

PROVENANCE = {"release": "r1", "bundle_version": "3", "prior_id": "uniform-1"}
N = 40


@pytest.fixture(scope="module")
def catalog() -> pl.DataFrame:
    """Gaussian p(z) of known means; the last source has no posterior."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(150.0, 152.0, N), rng.uniform(1.0, 3.0, N)
    mean, width = rng.uniform(0.3, 2.0, N), rng.uniform(0.01, 0.1, N)
    quantiles = stats.norm.ppf(np.asarray(QUANTILE_LEVELS)[None], mean[:, None], width[:, None])

    def nullable(values: np.ndarray) -> pl.Series:
        return pl.Series([*values[:-1].tolist(), None], dtype=pl.Float32)

    columns: dict[str, object] = {
        "object_id": source_id(ra, dec),
        "ra": ra,
        "dec": dec,
        "snr": pl.Series(rng.uniform(5, 50, N), dtype=pl.Float32),
        "n_bands": pl.Series(np.full(N, 102), dtype=pl.UInt16),
        "n_used": pl.Series(np.full(N, 290), dtype=pl.UInt32),
        "n_masked": pl.Series(np.full(N, 10), dtype=pl.UInt32),
        "n_set_aside": pl.Series([0] * (N - 1) + [50], dtype=pl.UInt32),
        "flags_any": pl.Series(np.full(N, 2**33 + 2**21), dtype=pl.UInt64),
        "pae_path": ["proposal"] * (N - 1) + ["none"],
        "pae_status": ["converged"] * (N - 1) + ["failed"],
        "pae_ess": nullable(np.full(N, 400.0)),
        "pae_khat": nullable(np.full(N, 0.2)),
        "pae_rhat": pl.Series([None] * N, dtype=pl.Float32),
        "pae_n_reinit": pl.Series([0] * (N - 1) + [None], dtype=pl.Int32),
        "pae_moved": ["no"] * N,
        "z_flags": pl.Series([0] * (N - 1) + [64], dtype=pl.UInt16),
        "prior_id": ["uniform-1"] * N,
    }
    columns["sbi_status"] = ["converged"] * (N - 1) + ["failed"]
    for method in ("pae", "tf", "sbi"):
        for name, values in (
            ("mean", mean), ("median", mean), ("mode", mean), ("std", width),
            ("err68_low", mean - width), ("err68_high", mean + width),
        ):  # fmt: skip
            columns[f"{method}_z_{name}"] = nullable(values)
        rows = [*quantiles[:-1].tolist(), None]
        columns[f"{method}_z_quantiles"] = pl.Series(rows, dtype=pl.Array(pl.Float32, len(QUANTILE_LEVELS)))
    table = pl.DataFrame(columns)
    return table.with_columns(catalog_flags=catalog_flags(table))


def written(catalog: pl.DataFrame, tmp_path: Path, file_format: str) -> Path:
    return export(catalog.lazy(), tmp_path / f"out_{file_format}", file_format, PROVENANCE, progress=False)


# -- flags ------------------------------------------------------------------------------------------------------------
def test_flags_say_what_speaks_against_a_source(catalog: pl.DataFrame):
    assert catalog["catalog_flags"][0] == 0 and in_words(0) == "none"
    last = CatalogFlag(catalog["catalog_flags"][-1])
    wanted = CatalogFlag.NO_REDSHIFT | CatalogFlag.NOT_BY_PROPOSAL | CatalogFlag.NO_TEMPLATE_FIT
    assert last == wanted | CatalogFlag.EXPOSURES_SET_ASIDE | CatalogFlag.NO_SBI_REDSHIFT
    assert in_words(int(last)).startswith("NO_REDSHIFT|NOT_BY_PROPOSAL")


@pytest.mark.parametrize(
    ("column", "value", "flag"),
    [
        ("pae_khat", 0.8, CatalogFlag.NOT_CONVERGED),
        ("pae_rhat", 1.2, CatalogFlag.NOT_CONVERGED),
        ("pae_ess", 50.0, CatalogFlag.LOW_ESS),
        ("pae_path", "mclmc", CatalogFlag.NOT_BY_PROPOSAL),
        ("z_flags", 32, CatalogFlag.MISFIT),
        ("z_flags", 16, CatalogFlag.MULTIMODAL),
        ("z_flags", 8, CatalogFlag.AT_PRIOR_EDGE),
        ("z_flags", 2, CatalogFlag.FEW_BANDS),
        ("z_flags", 128, CatalogFlag.BAD_INPUT),
        ("tf_z_mean", 9.0, CatalogFlag.TF_DISAGREES),
        ("tf_z_std", 0.001, CatalogFlag.WIDER_THAN_TF),
        ("n_set_aside", 100, CatalogFlag.EXPOSURES_SET_ASIDE),
        ("pae_moved", "weights", CatalogFlag.PRIOR_MOVED),
        ("sbi_z_mean", 9.0, CatalogFlag.SBI_DISAGREES),
        ("sbi_status", "unlike_training", CatalogFlag.SBI_UNLIKE_TRAINING),
        ("sbi_z_mean", None, CatalogFlag.NO_SBI_REDSHIFT),
    ],
)
def test_each_bit_is_set_by_its_reason_alone(
    catalog: pl.DataFrame, column: str, value: object, flag: CatalogFlag
):
    changed = catalog.head(1).with_columns(pl.lit(value).cast(catalog.schema[column]).alias(column))
    assert catalog_flags(changed).to_list() == [int(flag)]


# -- formats ----------------------------------------------------------------------------------------------------------
def test_parquet_says_units_and_provenance(catalog: pl.DataFrame, tmp_path: Path):
    import pyarrow.parquet as pq

    path = written(catalog, tmp_path, "parquet")
    assert pl.read_parquet(path).equals(catalog)
    schema = pq.read_schema(path)
    assert schema.field("ra").metadata[b"unit"] == b"deg"
    assert schema.field("pae_z_median").metadata[b"ucd"] == b"src.redshift.phot;stat.median"
    header = json.loads(schema.metadata[b"paeplatform"])
    assert header["prior_id"] == "uniform-1" and "16: MISFIT" in header.values()


def test_fits_is_read_by_astropy_with_nulls_and_64_bit_flags(catalog: pl.DataFrame, tmp_path: Path):
    with fits.open(written(catalog, tmp_path, "fits")) as hdus:
        data, header = hdus[1].data, hdus[1].header
        np.testing.assert_array_equal(data["object_id"], catalog["object_id"].to_numpy())
        np.testing.assert_array_equal(data["flags_any"], catalog["flags_any"].to_numpy())
        assert np.isnan(data["pae_z_mean"][-1]) and np.isfinite(data["pae_z_mean"][:-1]).all()
        place = data.columns.names.index("pae_n_reinit") + 1
        assert header[f"TNULL{place}"] == data["pae_n_reinit"][-1] == -(2**31)
        assert header[f"TUNIT{data.columns.names.index('ra') + 1}"] == "deg"
        assert header[f"TUCD{data.columns.names.index('tf_z_std') + 1}"] == "stat.stdev;src.redshift.phot"
        assert "release=r1" in [header[key] for key in header if key.startswith("PROV")]
        assert header["CFLAG04"] == "16: MISFIT"
        assert data["pae_z_quantiles"].shape == (N, len(QUANTILE_LEVELS))


def test_votable_is_read_by_astropy_with_ucds_and_masks(catalog: pl.DataFrame, tmp_path: Path):
    table = parse_single_table(str(written(catalog, tmp_path, "votable")))
    ucds = {field.name: field.ucd for field in table.fields}
    assert ucds["pae_z_median"] == "src.redshift.phot;stat.median" and ucds["ra"] == "pos.eq.ra;meta.main"
    frame = table.to_table()
    np.testing.assert_array_equal(np.asarray(frame["object_id"]), catalog["object_id"].to_numpy())
    np.testing.assert_allclose(np.asarray(frame["dec"]), catalog["dec"].to_numpy())
    last = frame["pae_z_mean"][-1]
    assert np.ma.is_masked(last) or np.isnan(last)
    assert str(frame["dec"].unit) == "deg"


def test_qp_gives_the_densities_back(catalog: pl.DataFrame, tmp_path: Path):
    qp = pytest.importorskip("qp", reason="extra `outputs` is not installed")
    path = written(catalog, tmp_path, "qp").rename(tmp_path / "out.hdf5")
    ensemble = qp.read(str(path))
    known = catalog.head(N - 1)
    assert ensemble.npdf == N - 1
    np.testing.assert_array_equal(ensemble.ancil["object_id"], known["object_id"].to_numpy())
    assert {"objectId", "zmode", "z_mode", "z_mean", "z_median", "z_std"} <= set(ensemble.ancil)
    mean, width = (known[name].to_numpy().astype(float) for name in ("pae_z_mean", "pae_z_std"))
    cdf = ensemble.cdf(mean[:, None] + 0.5 * width[:, None])[:, 0]
    np.testing.assert_allclose(cdf, stats.norm.cdf(0.5), atol=0.01)  # 51 quantiles: 0.004 claimed in DESIGN 6
    import tables_io

    read = tables_io.read(str(path))
    np.testing.assert_array_equal(read["ancil"]["object_id"], known["object_id"].to_numpy())


def test_qp_densities_on_a_grid_are_normalised(catalog: pl.DataFrame):
    pytest.importorskip("qp", reason="extra `outputs` is not installed")
    from paeplatform.outputs.qp_ensemble import GRID, grid_ensemble

    ensemble = grid_ensemble(catalog.head(N - 1))
    area = np.trapezoid(ensemble.pdf(GRID), GRID, axis=1)
    np.testing.assert_allclose(area, 1.0, atol=1e-6)


def test_hats_is_valid_for_its_own_reader(catalog: pl.DataFrame, tmp_path: Path):
    hats = pytest.importorskip("hats", reason="hats is not installed")
    path = written(catalog, tmp_path, "hats")
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(path, strict=True)
    found = hats.read_hats(path)
    assert found.catalog_info.total_rows == N
    leaves = pl.read_parquet(path / "dataset" / "Norder=6" / "**" / "*.parquet", hive_partitioning=False)
    assert leaves.select(catalog.columns).sort("object_id").equals(catalog.sort("object_id"))
    assert leaves["_healpix_29"].equals(leaves["object_id"].alias("_healpix_29"))


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_export_that_fails_leaves_the_old_one(catalog: pl.DataFrame, tmp_path: Path, file_format: str):
    path = tmp_path / f"out_{file_format}"
    path.write_text("old")
    broken = catalog.lazy().with_columns(pl.lit("x").cast(pl.Int64).alias("boom"))
    with pytest.raises(pl.exceptions.InvalidOperationError):
        export(broken, path, file_format, PROVENANCE, progress=False)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_bad_requests_are_one_line(catalog: pl.DataFrame, tmp_path: Path):
    with pytest.raises(InputError, match="must be one of parquet, fits"):
        export(catalog.lazy(), tmp_path / "x", "xls", {})
    with pytest.raises(InputError, match="no rows"):
        export(catalog.head(0).lazy(), tmp_path / "x", "fits", {})


def test_every_described_ucd_is_one_of_the_standard(catalog: pl.DataFrame):
    from astropy.io.votable.ucd import check_ucd

    for name in catalog.columns:
        ucd = describe(name).ucd
        assert not ucd or check_ucd(ucd, check_controlled_vocabulary=True, has_colon=False), (name, ucd)
