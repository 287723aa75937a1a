"""The whole way of a user's file: read, corrected, inferred with the model that ships, said, drawn.

The galaxies are those of `mocks`; the two real objects are read where they lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import paeplatform
from paeplatform.answers.asking import Answers, Corrections, answer
from paeplatform.answers.quick import estimator_of
from paeplatform.errors import InputError
from paeplatform.inference.estimate import SLOT_COUNTS, Estimator
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.instrument.bands import load_bands
from paeplatform.intake.sources import ReadingOptions, read_sources
from paeplatform.reference.shipped import reference_sbi
from tests.answers.mocks import (
    N_GALAXIES,
    apart,
    bright_galaxies,
    exported,
    galaxy,
    packed,
    reddened,
    write_foreign,
)
from tests.intake.layouts import OLDER, write, write_packed_votable
from tests.real_sources import FILES, FOLDER

UNITS = {"lambda": "um", "lambda_width": "um", "flux": "uJy", "flux_err": "uJy", "ra": "deg", "dec": "deg"}
MEASURED = ["lambda", "lambda_width", "flux", "flux_err"]
slow = pytest.mark.slow
Maker = Callable[[Path], list[Path]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("asking")


@pytest.fixture(scope="module")
def native(folder: Path) -> Path:
    """The native table: every column of the export, in a format that keeps every bit."""
    return write(exported(), folder / "native.parquet")


@pytest.fixture(scope="module")
def asked(native: Path) -> Answers:
    """What `ask` says of the native table; most of its time is compiling."""
    return paeplatform.ask(native, progress=False)


def same_posteriors(got: pl.DataFrame, wanted: pl.DataFrame) -> bool:
    """Whether two tables say the same of each source, to the bit, draws and all."""
    columns = [name for name in wanted.columns if name.startswith("pae_") or name in ("object_id", "z_flags")]
    return got.select(columns).equals(wanted.select(columns))


# -- what an answer is ------------------------------------------------------------------------------------------------
def test_the_table_is_that_of_the_estimator_to_the_byte(native: Path, asked: Answers) -> None:
    sources = read_sources([native])
    model = estimator_of()
    table, draws = model.estimate_measured(sources.measurements, sources.object_id, progress=False)
    assert asked.table.select(table.columns).equals(table)
    np.testing.assert_array_equal(asked.draws.z, draws.z)
    np.testing.assert_array_equal(asked.draws.u, draws.u)
    assert asked.table["prior_id"].unique().to_list() == [model.z_prior.prior_id()]
    assert asked.table["ra"].to_list() == bright_galaxies()["ra"].to_list()


def test_bright_galaxies_have_their_redshifts(asked: Answers) -> None:
    table, truth = asked.table, bright_galaxies()
    assert table["object_id"].to_list() == truth["object_id"].to_list()
    assert table["pae_status"].to_list() == ["converged"] * N_GALAXIES
    off = (table["pae_z_median"] - truth["z_true"]) / table["pae_z_std"]
    assert (off.abs() < 5.0).all(), off.to_list()
    assert (table["pae_z_std"] / (1.0 + table["pae_z_median"]) < 0.2).all(), "they say something"
    for row in range(N_GALAXIES):
        first, second, *_ = asked.sentences(row)
        assert first.startswith(asked.facts[row].name) and second.startswith("Redshift: z = ")
        assert "NO " not in first


def test_the_table_goes_to_pandas_and_astropy(asked: Answers) -> None:
    from astropy.table import Table

    frame = asked.table.to_pandas()
    assert frame["pae_z_median"].tolist() == asked.table["pae_z_median"].to_list()
    assert frame["object_id"].tolist() == asked.table["object_id"].to_list()
    table = Table.from_df(asked.table.select("object_id", "name", "pae_z_median"))
    np.testing.assert_array_equal(np.asarray(table["pae_z_median"]), asked.table["pae_z_median"].to_numpy())


def test_the_page_and_the_cards_hold_the_galaxies(asked: Answers) -> None:
    page = asked.page("four galaxies")
    for fact in asked.facts:
        assert fact.name in page
    assert asked.card(0).startswith(b"\x89PNG\r\n\x1a\n")
    assert asked.card(0) != asked.card(1)


def test_the_baseline_and_the_network_stand_beside(asked: Answers) -> None:
    found = asked.beside(reference_sbi()[0])
    assert found.table.select(asked.table.columns).equals(asked.table)
    z = asked.table["pae_z_median"].to_numpy()
    for method in ("tf", "sbi"):
        own = found.table[f"{method}_z_median"].to_numpy()
        assert np.isfinite(own).all() and (own > 0.0).all()
        # bright galaxies: other ways to the same redshift, but for a second solution now and then
        assert (np.abs(own - z) / (1.0 + z) < 0.1).mean() > 0.5, method
    alone = asked.beside(None).table
    assert alone.equals(found.table.select(alone.columns)) and "sbi_z_median" not in alone.columns


# -- every layout -----------------------------------------------------------------------------------------------------
def table_of(columns: list[str] | None, name: str) -> Maker:
    def make(folder: Path) -> list[Path]:
        return [write(exported() if columns is None else exported().select(columns), folder / name)]

    return make


def votable(serialisation: str, unit: str) -> Maker:
    def make(folder: Path) -> list[Path]:
        factor = {"uJy": 1.0, "mJy": 1e-3}[unit]
        table = packed(exported()).with_columns(pl.col("flux", "flux_err").list.eval(pl.element() * factor))
        units = UNITS | {"wavelength": "um", "width": "um", "flux": unit, "flux_err": unit}
        path = folder / f"packed_{unit}.xml"
        return [write_packed_votable(table, path, units=units, serialisation=serialisation)]

    return make


def another_maker(folder: Path) -> list[Path]:
    return [write_foreign(galaxy(number), folder / f"{number}.csv") for number in range(N_GALAXIES)]


def behind_dust(folder: Path) -> list[Path]:
    return [write(reddened(exported(), 0.1), folder / "reddened.csv")]


# Numbers that are the same to the bit, or to the last bit of a float64: mJy and the law of extinction multiply and
# divide. Photometry enters the posterior as float32, in which these are the same numbers.
SAME = {
    "17 columns, CSV, gzip": table_of(OLDER, "older.csv.gz"),
    "21 columns, FITS": table_of(None, "export.fits"),
    "packed VOTable": votable("tabledata", "uJy"),
    "tables of another maker, one a galaxy": another_maker,
    "reddened, with a column ebv_mw": behind_dust,
}
MORE = {
    "21 columns, CSV": table_of(None, "export.csv"),
    "17 columns, Parquet": table_of(OLDER, "older.parquet"),
    "17 columns, FITS, gzip": table_of(OLDER, "older.fits.gz"),
    "21 columns, ECSV": table_of(None, "export.ecsv"),
    "17 columns, IPAC": table_of(OLDER, "older.tbl"),
    "21 columns, VOTable": table_of(None, "export.vot"),
    "21 columns, tabs": table_of(None, "export.tsv"),
    "17 columns, semicolons": table_of(OLDER, "older.ssv"),
    "17 columns, blanks": table_of(OLDER, "older.dat"),
    "packed VOTable, binary": votable("binary2", "uJy"),
    "packed VOTable, mJy": votable("tabledata", "mJy"),
}


@pytest.mark.parametrize(
    "make",
    [*(pytest.param(make, id=name) for name, make in SAME.items()),
     *(pytest.param(make, id=name, marks=slow) for name, make in MORE.items())],
)  # fmt: skip
def test_every_layout_gives_the_redshifts_of_the_native_table(
    asked: Answers, tmp_path: Path, make: Maker
) -> None:
    got = paeplatform.ask(make(tmp_path), progress=False)
    assert got.measurements.flux.astype(np.float32).tolist() == (
        asked.measurements.flux.astype(np.float32).tolist()
    ), "the same measurements in float32"
    assert same_posteriors(got.table, asked.table)


def in_float32(folder: Path) -> list[Path]:
    return [write(exported().with_columns(pl.col(MEASURED).cast(pl.Float32)), folder / "narrow.parquet")]


def in_four_decimals(folder: Path) -> list[Path]:
    return [write(exported().with_columns(pl.col(MEASURED).round(4)), folder / "printed.csv")]


@pytest.mark.parametrize("make", [in_float32, pytest.param(in_four_decimals, marks=slow)])
def test_fewer_digits_give_the_same_redshifts_within_the_draws(
    asked: Answers, tmp_path: Path, make: Maker
) -> None:
    """Rounding changes each flux by less than a thousandth of its error, so ln p by much less than one: the posterior
    is the same. Its draws are not, as a rounding decides here and there which mixture is fitted. The medians of two
    sets of n effective draws differ by 1.25 sigma sqrt(2 / n), of which four times are allowed.
    """
    got = paeplatform.ask(make(tmp_path), progress=False).table
    allowed = 4.0 * 1.2533 * np.sqrt(2.0 / asked.table["pae_ess"].to_numpy())
    assert (apart(asked.table, got) < allowed).all()
    assert got["pae_status"].equals(asked.table["pae_status"])
    assert not same_posteriors(got, asked.table), "digits are missing, or this says nothing"


def test_extinction_that_is_not_taken_off_shows(asked: Answers, tmp_path: Path) -> None:
    """So that the test above can fail: at E(B-V) = 0.3 a third of the light is lost at the blue end."""
    path = write(reddened(exported(), 0.3).drop("ebv_mw"), tmp_path / "red.parquet")
    left = paeplatform.ask(path, progress=False)
    assert (left.measurements.flux / asked.measurements.flux).min() < 0.7
    assert not same_posteriors(left.table, asked.table)
    off = paeplatform.ask(path, ebv_mw=0.3, progress=False)
    assert same_posteriors(off.table, asked.table)
    assert "E(B-V) = 0.3 removed" in " ".join(off.sentences(0))


# -- order and company ------------------------------------------------------------------------------------------------
def test_neither_order_nor_company_changes_an_answer(asked: Answers, tmp_path: Path) -> None:
    some = [write(galaxy(number), tmp_path / f"{number}.parquet") for number in (2, 0)]
    got = paeplatform.ask(some, progress=False)
    assert got.table["object_id"].to_list() == [asked.table["object_id"][row] for row in (2, 0)]
    assert same_posteriors(got.table, asked.table[[2, 0]])
    assert (
        got.sentences(0)[1:] == asked.sentences(2)[1:]
    )  # the first line has the name, which is the file's here
    np.testing.assert_array_equal(got.draws.z, asked.draws.z[[2, 0]])


def test_shuffled_rows_change_nothing(asked: Answers, tmp_path: Path) -> None:
    path = write(exported().sample(fraction=1.0, shuffle=True, seed=1), tmp_path / "shuffled.csv")
    got = paeplatform.estimate(path, progress=False)
    assert same_posteriors(got.sort("object_id"), asked.table.sort("object_id"))


# -- channels ---------------------------------------------------------------------------------------------------------
def test_channels_are_answered_as_by_the_estimator() -> None:
    bands, truth = load_bands(), bright_galaxies()[:2]
    flux, flux_err = truth["flux"].to_numpy(), truth["flux_err"].to_numpy()
    ids = np.array([7, 3])
    got = paeplatform.estimate((flux, flux_err), object_id=ids, progress=False)
    assert got.equals(estimator_of().estimate(flux, flux_err, ids, progress=False))
    assert got["pae_n_bands"].to_list() == [len(bands)] * 2
    off = (got["pae_z_median"] - truth["z_true"]) / got["pae_z_std"]
    assert (off.abs() < 5.0).all()
    numbered = paeplatform.estimate((flux, flux_err), progress=False)
    assert numbered["object_id"].to_list() == [0, 1]
    assert not numbered["pae_z_median"].equals(got["pae_z_median"]), "ids fix the random numbers"


# -- options ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def no_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is said before work starts."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("the inference began")

    monkeypatch.setattr(Estimator, "estimate_measured", started)
    monkeypatch.setattr(Estimator, "estimate_with_draws", started)


@pytest.mark.usefixtures("no_inference")
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"ebv_mw": -0.1}, ["E(B-V) -0.1", "within 0 and 10"]),
        ({"ebv_mw": 11.0}, ["E(B-V) 11", "E(B-V)", "within 0 and 10"]),
        ({"ebv_mw": math.inf}, ["E(B-V) inf"]),
        ({"error_floor": -1.0}, ["error floor -1", "within 0 and 100"]),
        ({"error_floor": math.nan}, ["error floor nan"]),
        ({"error_floor": 101.0}, ["error floor 101"]),
        ({"confusion_ujy": -0.5}, ["confusion noise -0.5", "0 or more"]),
        ({"confusion_ujy": math.inf}, ["confusion noise inf"]),
        ({"prior": "flat"}, ["prior 'flat'", "bpz or uniform"]),
        ({"method": "magic"}, ["method 'magic'", "importance, mclmc, pocomc"]),
        ({"preset": "nope"}, ["preset 'nope'", "reference"]),
        ({"unit": "Crab"}, ["unit 'Crab'", "uJy, mJy, Jy, nJy, ABmag"]),
        ({"match_radius_arcsec": -1.0}, ["match radius -1", "[0, 3600]"]),
        ({"flag_policy": "loose"}, ["'loose'", "tool", "strict"]),
        ({"columns": {"brightness": "flux"}}, ["brightness", "flux_err"]),
        ({"columns": {"flux": "F_total"}}, ["no column F_total", "--columns flux=F_total"]),
    ],
)
def test_options_out_of_range_end_in_one_line(native: Path, options: dict, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        paeplatform.ask(native, progress=False, **options)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 400 + len(str(native))
    for part in parts:
        assert part in said, f"{part!r} is not in {said!r}"


@pytest.mark.usefixtures("no_inference")
def test_what_goes_with_files_alone_or_with_channels_alone(native: Path) -> None:
    channels = np.ones((1, 102)), np.ones((1, 102))
    with pytest.raises(InputError, match=r"object_id goes with \(flux, flux_err\)"):
        paeplatform.estimate(native, object_id=np.array([1]))
    with pytest.raises(InputError, match="unit, ebv_mw: only for files of measurements"):
        paeplatform.estimate(channels, unit="uJy", ebv_mw=0.1)
    with pytest.raises(InputError, match="colour: only for files"):
        paeplatform.estimate(channels, colour="red")
    with pytest.raises(TypeError, match="colour"):
        paeplatform.ask(native, colour="red")
    with pytest.raises(InputError, match="no file of measurements"):
        paeplatform.ask([])
    with pytest.raises(InputError, match="does not exist"):
        paeplatform.ask(native.with_name("nothing.csv"))
    with pytest.raises(InputError, match="nothing"):
        paeplatform.ask(native, bundle=native.with_name("nothing"))


@pytest.mark.slow
def test_another_prior(native: Path, asked: Answers) -> None:
    prior = UniformPrior(asked.estimator.z_prior.z_min, asked.estimator.z_prior.z_max)
    got = paeplatform.ask(native, prior=prior, progress=False)
    assert got.table["prior_id"].unique().to_list() == [prior.prior_id()] != [asked.table["prior_id"][0]]
    assert not same_posteriors(got.table, asked.table)
    assert same_posteriors(paeplatform.ask(native, prior="uniform", progress=False).table, got.table)


def test_sources_that_were_read_with_larger_errors(native: Path, asked: Answers) -> None:
    sources = read_sources([native], ReadingOptions(flag_policy="tool"))
    got = paeplatform.ask(sources, error_floor=2.0, confusion_ujy=1.0, progress=False)
    assert not same_posteriors(got.table, asked.table)
    said = " ".join(got.sentences(0))
    assert "2 % of the flux added" in said and "1 uJy of confusion noise" in said
    wider = np.hypot(np.hypot(sources.measurements.flux_err, 0.02 * np.abs(sources.measurements.flux)), 1.0)
    np.testing.assert_allclose(got.measurements.flux_err, wider, rtol=1e-14)
    np.testing.assert_array_equal(got.measurements.flux, sources.measurements.flux)
    assert sources.measurements.flux_err.max() < got.measurements.flux_err.max(), "the sources are untouched"


# -- real objects -----------------------------------------------------------------------------------------------------
def real(which: str) -> Path:
    path = FOLDER / FILES[which]
    if not path.is_file():
        pytest.skip(f"the real measurements are not in {FOLDER}")
    return path


def test_the_quasar_has_its_redshift_and_no_usable_one() -> None:
    """No galaxy is like it; the least bad one lies at the right place, which the search has to find."""
    got = paeplatform.ask(real("quasar"), progress=False)
    assert got.table["pae_status"].to_list() == ["misfit"]
    assert abs(got.table["pae_z_mode"][0] - 2.56) < 0.02
    assert got.table["pae_z_std"][0] > 0.3, "half of the p(z) of a misfit is the prior"
    first, what = got.sentences(0)[:2]
    assert first.startswith("NO USABLE REDSHIFT for quasar_h1413+117")
    assert got.table["class_best"].to_list() == ["quasar"]
    assert abs(got.table["class_z_quasar"][0] - 2.56) < 0.02 * 3.56
    assert what.startswith("What it is: a quasar, probability above 99.9 %; as a quasar z = 2.5")


@pytest.mark.slow
def test_the_brown_dwarf_has_no_usable_redshift() -> None:
    got = paeplatform.ask(real("brown dwarf"), progress=False)
    assert got.table["pae_status"].to_list() == ["misfit"]
    assert got.table["pae_n_measurements"][0] > SLOT_COUNTS[0]
    assert got.table["class_best"].to_list() == ["brown_dwarf"]
    first, *rest = got.sentences(0)
    assert first.startswith("NO USABLE REDSHIFT for browndwarf_simp_j0136+0933")
    assert not any(line.startswith("Redshift") for line in rest)


@pytest.mark.slow
def test_both_real_objects_together_are_as_each_alone() -> None:
    paths = [real(which) for which in FILES]
    got = paeplatform.ask(paths, progress=False)
    assert [fact.name for fact in got.facts] == [path.stem for path in paths]
    assert got.table["pae_status"].to_list() == ["misfit", "misfit"]
    page = got.page("two real objects")
    for path in paths:
        assert path.stem in page
    for row, path in enumerate(paths):
        alone = paeplatform.ask(path, progress=False)
        assert same_posteriors(alone.table, got.table[[row]])
        assert got.card(row).startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.slow
def test_twenty_thousand_measurements_of_one_source(tmp_path: Path) -> None:
    """As near the ecliptic poles: more than the last of the places, so that they are merged."""
    from paeplatform.release.simulated.delivery import DeliverySpec, exposures
    from paeplatform.release.simulated.sky import TemplateSky
    from paeplatform.sed.library import load_library

    truth = bright_galaxies()[3:4]
    spec = DeliverySpec("deep", n_visits=197, seed=5)
    rows = exposures(truth, load_bands(), spec, TemplateSky(load_library())).head(20_000)
    assert rows.height > 19_000
    path = write(rows, tmp_path / "deep.parquet")
    got = paeplatform.ask(path, progress=False)
    assert len(got.facts) == 1 and got.facts[0].n_read == rows.height
    assert got.table["pae_n_measurements"][0] <= SLOT_COUNTS[-1]
    assert got.table["pae_status"].to_list() == ["converged"]
    off = (got.table["pae_z_median"] - truth["z_true"]) / got.table["pae_z_std"]
    assert (off.abs() < 5.0).all()
    assert "merged into" in " ".join(got.sentences(0))


def test_corrections_of_the_caller_take_the_place_of_the_files(tmp_path: Path, asked: Answers) -> None:
    """A column ebv_mw of 0.1 is not used where the caller says 0."""
    path = write(exported().with_columns(ebv_mw=pl.lit(0.1)), tmp_path / "dusty.csv")
    got = answer(
        read_sources([path]), asked.estimator, model="it", corrections=Corrections(0.0), progress=False
    )
    assert same_posteriors(got.table, asked.table)
    assert "Corrections: none." in got.sentences(0)


@pytest.mark.parametrize("chains", [False, True])
def test_chains_are_for_whoever_asks_for_them(chains: bool, tmp_path: Path, monkeypatch) -> None:
    """In Python and on the command line: what decides is the estimator that answers."""
    from paeplatform.answers.quick import estimator_of
    from paeplatform.cli.infer.model import ChosenModel
    from paeplatform.cli.options import settings_for

    assert estimator_of(chains=chains).preset.inference.fallback is chains
    monkeypatch.setenv("PAEPLATFORM_HOME", str(tmp_path))
    chosen = ChosenModel(settings_for(tmp_path, None), None, None, None, None, None, chains)
    answering, name = chosen.estimator()
    assert answering.preset.inference.fallback is chains
    assert name == "the reference model that ships with paeplatform" and answering.preset.name == "reference"
