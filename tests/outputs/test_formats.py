"""Exports are read back by the libraries that their users have."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table
from scipy import stats

from paeplatform.config import TrustConfig
from paeplatform.errors import InputError
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.outputs.columns import describe
from paeplatform.outputs.flags import CatalogFlag, catalog_flags, in_words
from paeplatform.outputs.formats import FORMATS, SUFFIXES, export
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
        "pae_binning_chi2": pl.Series([0.1] * (N - 1) + [None], dtype=pl.Float32),
        # one source in three has a second solution, and none a third one
        **{
            name: pl.Series([value if k % 3 == 0 else None for k in range(N)], dtype=pl.Float32)
            for name, value in (("pae_z2", 1.7), ("pae_z2_weight", 0.2), ("pae_chi2_gap", -1.5))
        },
        "pae_z3": pl.Series([None] * N, dtype=pl.Float32),
        "pae_z3_weight": pl.Series([None] * N, dtype=pl.Float32),
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
    return table.with_columns(catalog_flags=catalog_flags(table, TrustConfig()))


def written(catalog: pl.DataFrame, tmp_path: Path, file_format: str) -> Path:
    return export(catalog.lazy(), tmp_path / f"out_{file_format}", file_format, PROVENANCE, progress=False)


def content(path: Path) -> dict[str, bytes]:
    """Every file at or under a path."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return {str(one): one.read_bytes() for one in files}


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
        ("pae_binning_chi2", 1.5, CatalogFlag.BINNING_UNSAFE),
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
    assert catalog_flags(changed, TrustConfig()).to_list() == [int(flag)]


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
    path = tmp_path / f"mock-r1{SUFFIXES['qp']}"  # the name that the command chooses
    export(catalog.lazy(), path, "qp", PROVENANCE, progress=False)
    assert list(tmp_path.iterdir()) == [path]
    ensemble = qp.read(str(path))
    known = catalog.head(N - 1)
    assert ensemble.npdf == N - 1
    np.testing.assert_array_equal(ensemble.ancil["object_id"], known["object_id"].to_numpy())
    assert {"objectId", "zmode", "z_mode", "z_mean", "z_median", "z_std"} <= set(ensemble.ancil)
    mean, width = (known[name].to_numpy().astype(float) for name in ("pae_z_mean", "pae_z_std"))
    cdf = ensemble.cdf(mean[:, None] + 0.5 * width[:, None])[:, 0]
    np.testing.assert_allclose(cdf, stats.norm.cdf(0.5), atol=0.001)
    z = np.linspace(0.0, 3.0, 30_001)
    np.testing.assert_allclose(np.trapezoid(ensemble.pdf(z), z, axis=1), 1.0, atol=1e-3)
    at = mean[:, None] + width[:, None] * np.linspace(-1.5, 1.5, 41)
    true = stats.norm.pdf(at, mean[:, None], width[:, None])
    np.testing.assert_allclose(ensemble.pdf(at), true, rtol=0.03)
    assert qp.convert(ensemble, "interp", xvals=np.linspace(0.0, 3.0, 301)).npdf == N - 1
    import tables_io

    read = tables_io.read(str(path))
    np.testing.assert_array_equal(read["ancil"]["object_id"], known["object_id"].to_numpy())


def quantiles_of_hard_cases() -> np.ndarray:
    """Two peaks far apart; a width of 1e-4; one draw; many equal draws; at z = 0; a gap beside a narrow peak."""
    levels = np.asarray(QUANTILE_LEVELS)
    peaks = np.where(levels < 0.4, 0.3 + 0.002 * levels, 1.9 + 0.1 * levels)
    narrow = stats.norm.ppf(levels, 1.2345, 1e-4)
    one, equal = np.full(51, 0.75), np.repeat([0.5, 0.9, 0.9001], 17)
    edge = stats.expon.ppf(levels, scale=0.01)
    gap = np.concatenate([1.0 + 1e-5 * np.arange(50), [2.9]])
    return np.stack([peaks, narrow, one, equal, edge, gap]).astype(np.float32).astype(np.float64)


def test_qp_densities_of_hard_cases_integrate_to_one_and_have_the_quantiles(tmp_path: Path):
    qp = pytest.importorskip("qp", reason="extra `outputs` is not installed")
    from paeplatform.outputs.qp_ensemble import write_qp

    quantiles = quantiles_of_hard_cases()
    table = pl.DataFrame({"object_id": np.arange(len(quantiles))}).with_columns(
        *(pl.Series(f"tf_z_{name}", quantiles[:, 25]) for name in ("mean", "median", "mode", "std")),
        pl.Series("tf_z_quantiles", quantiles.astype(np.float32), dtype=pl.Array(pl.Float32, 51)),
    )
    write_qp(table.lazy(), tmp_path / "hard.hdf5", method="tf")
    ensemble = qp.read(str(tmp_path / "hard.hdf5"))
    np.testing.assert_allclose(ensemble.ppf(np.asarray(QUANTILE_LEVELS)), quantiles, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        ensemble.cdf(ensemble.ppf(np.asarray(QUANTILE_LEVELS))), np.tile(QUANTILE_LEVELS, (6, 1)), atol=1e-6
    )
    for row in range(len(quantiles)):
        own = ensemble[row]
        nodes = np.unique(own.dist.xvals)
        # A grid that resolves p(z), whose narrowest part here is a ten millionth of its range.
        z = np.linspace(nodes[:-1], nodes[1:], 12)[1:-1]
        z = np.sort(np.concatenate([z.ravel(), nodes, nodes - 1e-12, nodes + 1e-12]))
        density = np.squeeze(own.pdf(z))
        assert nodes[0] >= 0.0 and (density >= 0.0).all()
        assert np.trapezoid(density, z) == pytest.approx(1.0, abs=1e-3), row


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
    path = written(catalog, tmp_path, file_format)
    before = content(path)
    broken = catalog.lazy().with_columns(pl.lit("x").cast(pl.Int64).alias("boom"))
    with pytest.raises(pl.exceptions.InvalidOperationError):
        export(broken, path, file_format, PROVENANCE, overwrite=True, progress=False)
    assert content(path) == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("file_format", FORMATS)
def test_own_export_is_replaced_when_told(catalog: pl.DataFrame, tmp_path: Path, file_format: str):
    path = written(catalog, tmp_path, file_format)
    before = content(path)
    with pytest.raises(InputError, match=r"--to .* exists: add --overwrite"):
        written(catalog.head(9), tmp_path, file_format)
    assert content(path) == before
    export(catalog.head(9).lazy(), path, file_format, PROVENANCE, overwrite=True, progress=False)
    assert content(path) != before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_folder_or_file_of_somebody_else_stays(
    catalog: pl.DataFrame, tmp_path: Path, file_format: str, overwrite: bool
):
    folder, file = tmp_path / "results", tmp_path / f"mine{SUFFIXES[file_format]}"
    folder.mkdir()
    (folder / "notes.txt").write_text("not to be lost")
    file.write_text("not to be lost either")
    before = content(tmp_path)
    for path in (folder, file):
        with pytest.raises(InputError, match=f"--to {path}"):
            export(catalog.lazy(), path, file_format, PROVENANCE, overwrite=overwrite, progress=False)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "dataset/Norder=6/Dir=0/mine.parquet", "dataset/more"])
def test_a_foreign_file_in_a_catalogue_is_named(catalog: pl.DataFrame, tmp_path: Path, name: str):
    path = written(catalog, tmp_path, "hats")
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_text("not to be lost")
    before = content(path)
    with pytest.raises(
        InputError, match=f"holds .*{name.split('/')[-1] if 'Dir=0' not in name else 'Dir=0'}"
    ):
        export(catalog.lazy(), path, "hats", PROVENANCE, overwrite=True, progress=False)
    assert content(path) == before and list(tmp_path.iterdir()) == [path]


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
