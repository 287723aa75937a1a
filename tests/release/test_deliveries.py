"""A delivery's way: written, verified, read in batches, cut by cell, set aside, binned."""

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from paeplatform.catalog.cells import healpix_cell
from paeplatform.errors import InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.release.binning import bin_exposures, measurement_table
from paeplatform.release.flags import ALL_BITS, KNOWN_BITS, Flag, bit_mask, reject_mask
from paeplatform.release.judging import judge_release
from paeplatform.release.manifest import DeliveryError, Manifest, kept_manifest, load_manifest, write_manifest
from paeplatform.release.reading import file_sha256, read_batches, verify_files, write_table
from paeplatform.release.rows import SetAside, set_aside, with_channel
from paeplatform.release.schema import DETECTOR_RANGE_UM, EXPOSURE_SCHEMA, source_id, with_observation
from paeplatform.release.simulated.delivery import NOTE, DeliverySpec, exposures, write_delivery
from paeplatform.release.simulated.sky import ChannelSky
from paeplatform.release.splitting import content_sha256, split_delivery
from tests.alarm import without_waiting

Deliver = Callable[..., tuple[Path, Manifest]]


def _all_rows(folder: Path, manifest: Manifest) -> pl.DataFrame:
    return pl.concat([batch for file in manifest.files for batch in read_batches(folder, file)])


def _kept(folder: Path, manifest: Manifest, bands: BandSet) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = _all_rows(folder, manifest)
    rows = rows.with_columns(pl.Series("object_id", source_id(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
    return set_aside(rows, manifest, bands)


def _failed(outcomes) -> set[str]:
    return {outcome.rule for outcome in outcomes if not outcome.passed}


# -- schema and flags -------------------------------------------------------------------------------------------------
def test_columns_are_those_of_the_documented_export(project_root: Path):
    table = project_root.parent / "shared" / "data" / "irsa_spectrophotometry_columns.csv"
    if not table.is_file():
        pytest.skip("the list of columns is not on this machine")
    rows = [line.split(",") for line in table.read_text().splitlines()[1:] if not line.startswith("#")]
    long_format = [row[0] for row in rows if row[0] not in ("label", "n_meas", "nyquist_comp")]
    assert list(EXPOSURE_SCHEMA) == long_format


def test_flags_are_those_of_the_documented_list(project_root: Path):
    table = project_root.parent / "shared" / "data" / "spherex_flags.csv"
    if not table.is_file():
        pytest.skip("the list of flags is not on this machine")
    rows = [line.split(",") for line in table.read_text().splitlines()[1:] if line[:1].isdigit()]
    assert {int(row[0]): row[1] for row in rows} == {int(flag): flag.name for flag in Flag}


def test_the_strict_policy_lets_only_information_pass():
    assert reject_mask("strict") == ALL_BITS - (1 << 21) - (1 << 12)
    assert reject_mask("tool") == bit_mask({1, 15, 32, 33})
    assert 13 in KNOWN_BITS and 40 not in KNOWN_BITS
    with pytest.raises(InputError, match="tool or strict"):
        reject_mask("loose")


def test_an_observation_id_is_taken_apart():
    rows = pl.DataFrame(
        {"obs_publisher_did": ["ivo://irsa.ipac/spherex_qr2?2025W49_1A_0332_1/D2", "nonsense", None]}
    )
    found = with_observation(rows)
    assert found["obs_id"].to_list() == ["2025W49_1A_0332_1", None, None]
    assert found["obs_detector"].to_list() == [2, None, None]
    assert found["obs_mjd"][0] == 61010.0  # Monday, 1 December 2025


# -- manifest ---------------------------------------------------------------------------------------------------------
def test_a_manifest_round_trips_and_its_version_ignores_the_time_of_writing(deliver: Deliver):
    folder, manifest = deliver()
    assert load_manifest(folder) == manifest
    later = manifest.model_copy(update={"created": "2027-01-01T00:00:00+00:00"})
    assert later.content_hash() == manifest.content_hash()
    other = manifest.model_copy(update={"n_sources": 1})
    assert other.content_hash() != manifest.content_hash()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"release": "other"}, "lies in folder"),
        ({"n_rows": -1}, "n_rows"),
        ({"extra": 1}, "extra"),
        ({"files": []}, "files"),
        ({"files": [{"name": "../x", "format": "csv", "sha256": "0" * 64, "rows": 1, "bytes": 1}]}, "beside"),
        ({"files": [{"name": "x", "format": "xls", "sha256": "0" * 64, "rows": 1, "bytes": 1}]}, "format"),
    ],
)
def test_a_bad_manifest_is_refused_with_the_key(deliver: Deliver, change: dict, said: str):
    folder, _ = deliver()
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DeliveryError, match=said) as caught:
        load_manifest(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_manifest_is_no_delivery(tmp_path: Path):
    with pytest.raises(DeliveryError, match="still arriving"):
        load_manifest(tmp_path)


def test_a_delivery_that_fails_half_way_leaves_nothing(sources, bands, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paeplatform.release.simulated.delivery.write_table", full)
    with pytest.raises(OSError, match="No space"):
        write_delivery(sources, bands, tmp_path / "r1", DeliverySpec("r1"), progress=False)
    assert list(tmp_path.iterdir()) == []


# -- files ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("file_format", ["parquet", "csv", "fits"])
def test_every_format_gives_the_same_rows_with_all_64_bits(deliver: Deliver, file_format: str):
    folder, manifest = deliver(file_format=file_format)
    assert _failed(verify_files(folder, manifest, progress=False)) == set()
    rows = _all_rows(folder, manifest)
    reference = _all_rows(*deliver("r2"))
    assert rows.schema == reference.schema
    assert rows.drop("file").equals(reference.drop("file"))
    assert (rows["flags"] & (1 << 33)).max() == 1 << 33  # beyond what a signed 32-bit number holds


def test_batches_hold_no_more_rows_than_asked(deliver: Deliver):
    folder, manifest = deliver()
    sizes = [batch.height for batch in read_batches(folder, manifest.files[0], 5000)]
    assert max(sizes) <= 5000 and sum(sizes) == manifest.n_rows


def test_a_value_that_is_no_number_names_file_column_and_row(deliver: Deliver):
    folder, manifest = deliver(file_format="csv")
    rows = _all_rows(folder, manifest).drop("file", "row").with_columns(pl.col("mjd").cast(pl.String))
    rows[7, "mjd"] = "yesterday"
    write_table(rows, folder / manifest.files[0].name, "csv")
    with pytest.raises(InputError, match=r"csv.*column mjd, row 7.*yesterday"):
        _all_rows(folder, manifest)


@pytest.mark.parametrize("file_format", ["parquet", "fits"])
def test_a_truncated_file_is_named(deliver: Deliver, file_format: str):
    folder, manifest = deliver(file_format=file_format)
    path = folder / manifest.files[0].name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    outcomes = verify_files(folder, manifest, progress=False)
    assert {"manifest.checksum", "file.readable"} <= _failed(outcomes)
    assert all(path.name in outcome.detail for outcome in outcomes if not outcome.passed)


@pytest.mark.parametrize("file_format", ["parquet", "csv", "fits"])
def test_a_file_of_no_rows_beside_others_is_fine(deliver: Deliver, file_format: str):
    """A detector without exposures."""
    folder, manifest = deliver(file_format=file_format)
    path = folder / f"empty.{file_format}"
    write_table(_all_rows(folder, manifest).drop("file", "row").clear(), path, file_format)
    told = {"name": path.name, "rows": 0, "sha256": file_sha256(path), "bytes": path.stat().st_size}
    more = (*manifest.files, manifest.files[0].model_copy(update=told))
    manifest = manifest.model_copy(update={"files": more})
    assert _failed(verify_files(folder, manifest, progress=False)) == set()
    assert _all_rows(folder, manifest).height == manifest.n_rows


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def _link_beside(path: Path, _: Path) -> None:
    """To a file of the landing zone itself, which is no file of this delivery."""
    beside = path.parent.parent / "beside.txt"
    beside.write_text(SECRET)
    path.symlink_to(beside)


def _socket(path: Path, _: Path) -> None:
    with (
        contextlib.chdir(path.parent),
        socket.socket(socket.AF_UNIX) as one,
    ):  # a socket's path has to be short
        one.bind(path.name)


def _folder(path: Path, _: Path) -> None:
    path.mkdir()


SECRET = "root:x:0:0,of another user\n"
ODD = [
    (_fifo, "is a FIFO"),
    (_link, "is a symbolic link"),
    (_link_beside, "is a symbolic link"),
    (_socket, "is a socket"),
    (_folder, "is a folder"),
]


@pytest.mark.parametrize(("make", "said"), ODD)
def test_a_manifest_that_is_no_regular_file_is_not_opened(
    deliver: Deliver, tmp_path: Path, make: Callable[[Path, Path], None], said: str
):
    folder, _ = deliver()
    elsewhere = tmp_path / "passwd"
    elsewhere.write_text(SECRET)
    path = folder / "manifest.json"
    path.unlink()
    make(path, elsewhere)
    with without_waiting(20), pytest.raises(DeliveryError, match=said) as caught:
        load_manifest(folder)
    assert (
        str(path) in str(caught.value)
        and "\n" not in str(caught.value)
        and "another user" not in str(caught.value)
    )


@pytest.mark.parametrize("file_format", ["parquet", "csv", "fits"])
@pytest.mark.parametrize(("make", "said"), ODD)
def test_a_data_file_that_is_no_regular_file_is_not_opened(
    deliver: Deliver, tmp_path: Path, make: Callable[[Path, Path], None], said: str, file_format: str
):
    """Its manifest describes what a link leads to, so that every other rule passes."""
    folder, manifest = deliver(file_format=file_format)
    elsewhere = tmp_path / "passwd"
    elsewhere.write_text(SECRET)
    path = folder / manifest.files[0].name
    path.unlink()
    make(path, elsewhere)
    told = {"sha256": file_sha256(elsewhere), "bytes": len(SECRET), "rows": 0}
    manifest = manifest.model_copy(
        update={"files": (manifest.files[0].model_copy(update=told),), "n_rows": 0}
    )
    with without_waiting(20):
        outcomes = [*verify_files(folder, manifest, progress=False), *judge_release(folder, manifest)]
        with pytest.raises(DeliveryError, match=said):
            _all_rows(folder, manifest)
        with pytest.raises(DeliveryError, match=said):
            split_delivery(folder, manifest, tmp_path / "cells", 6, progress=False)
    (fault,) = (one for one in outcomes if not one.passed)
    assert (fault.rule, fault.observed, fault.detail) == ("manifest.files", said, path.name)
    assert "another user" not in str(outcomes)


def test_a_release_behind_a_link_out_of_the_landing_zone_is_refused(deliver: Deliver, tmp_path: Path):
    folder, manifest = deliver()
    moved = tmp_path / "outside" / "r1"
    moved.parent.mkdir()
    folder.rename(moved)
    folder.symlink_to(moved)
    with pytest.raises(DeliveryError, match="outside of the landing zone"):
        load_manifest(folder)
    assert {one.rule for one in verify_files(folder, manifest, progress=False) if not one.passed} == {
        "manifest.files"
    }


def test_a_landing_zone_that_is_itself_a_link_is_read(deliver: Deliver, tmp_path: Path):
    folder, manifest = deliver()
    (tmp_path / "linked").symlink_to(folder.parent)
    through = tmp_path / "linked" / folder.name
    assert load_manifest(through) == manifest
    assert _failed(verify_files(through, manifest, progress=False)) == set()


def test_a_manifest_that_the_platform_keeps_is_read_from_any_store(deliver: Deliver):
    from upath import UPath

    folder, manifest = deliver()
    kept = UPath("memory://store/release_manifests/r1")
    kept.mkdir(parents=True)
    (kept / "manifest.json").write_text((folder / "manifest.json").read_text())
    assert kept_manifest(kept) == manifest


def test_messages_repeat_little_of_a_file_that_is_no_table(deliver: Deliver):
    folder, manifest = deliver(file_format="csv")
    path = folder / manifest.files[0].name
    path.write_text(",".join(f"column {number} " + 200 * "x" for number in range(40)) + "\n1\n")
    outcomes = [one for one in verify_files(folder, manifest, progress=False) if not one.passed]
    assert {"schema.columns", "schema.extra_columns"} <= {one.rule for one in outcomes}
    assert max(len(one.observed + one.column) for one in outcomes) < 500
    (folder / "manifest.json").write_text(json.dumps({200 * "k" + str(number): 1 for number in range(99)}))
    with pytest.raises(DeliveryError, match="more") as caught:
        load_manifest(folder)
    assert len(str(caught.value)) < 600 + len(str(folder))


# -- cut by cell ------------------------------------------------------------------------------------------------------
def test_cells_hold_every_row_once_and_their_version_is_that_of_the_content(deliver: Deliver, tmp_path: Path):
    folder, manifest = deliver()
    split = split_delivery(folder, manifest, tmp_path / "a", 6, progress=False, batch_rows=4000)
    assert split.cells["n_rows"].sum() + split.unplaced.height == manifest.n_rows
    for row in split.cells.iter_rows(named=True):
        rows = pl.read_parquet(row["path"])
        assert set(healpix_cell(rows["ra"].to_numpy(), rows["dec"].to_numpy(), 6).tolist()) == {row["cell"]}
        assert row["sha256"] == content_sha256(rows) and row["n_sources"] == 48
    other = deliver("r1", rows_per_file=9000, file_format="csv")  # the same rows in other files
    again = split_delivery(*other, tmp_path / "b", 6, progress=False)
    assert again.cells.drop("path").equals(split.cells.drop("path"))


def test_another_seed_for_one_cell_changes_that_cell_alone(deliver: Deliver, tmp_path: Path):
    first = split_delivery(*deliver(), tmp_path / "a", 6, progress=False).cells
    changed = deliver(cell_seeds={27258: 99})
    second = split_delivery(*changed, tmp_path / "b", 6, progress=False).cells
    assert (first["sha256"] == second["sha256"]).to_list() == [True, False]


def test_a_split_that_dies_leaves_nothing_visible(deliver: Deliver, tmp_path: Path):
    folder, manifest = deliver(rows_per_file=9000)
    (folder / manifest.files[-1].name).unlink()
    with pytest.raises(DeliveryError):
        split_delivery(folder, manifest, tmp_path / "cells", 6, progress=False)
    assert not [path for path in tmp_path.iterdir() if path.name != "landing"]


# -- set aside and binned ---------------------------------------------------------------------------------------------
def test_a_clean_delivery_loses_no_row_but_those_the_noise_makes_odd(deliver: Deliver, bands: BandSet):
    kept, gone = _kept(*deliver(), bands)
    assert gone.filter(pl.col("reason") != SetAside.FLUX_OUTLIER.value).height == 0
    assert gone.height < 1e-3 * kept.height


def test_channels_are_those_of_the_detector(bands: BandSet):
    rows = pl.DataFrame(
        {"det_id": pl.Series([1, 2, 9, None], dtype=pl.Int16), "lambda": [1.11, 1.11, 1.11, 1.11]}
    )
    found = with_channel(rows, bands)["channel"].to_list()
    assert found[2:] == [None, None]
    for channel, detector in zip(found[:2], (1, 2), strict=True):
        place = int(np.flatnonzero(bands.channel == channel)[0])
        assert bands.detector[place] == detector
        same = bands.detector == detector
        assert abs(bands.wave_um[place] - 1.11) == np.abs(bands.wave_um[same] - 1.11).min()


def test_every_channel_lies_in_its_detectors_range(bands: BandSet):
    for detector, wave in zip(bands.detector, bands.wave_um, strict=True):
        low, high = DETECTOR_RANGE_UM[int(detector)]
        assert low < wave < high


def test_binning_is_the_weighted_mean_of_each_source_and_channel(deliver: Deliver, bands: BandSet):
    kept, gone = _kept(*deliver(), bands)
    reject = reject_mask("tool")
    table = bin_exposures(kept, bands, reject, 7, gone)
    assert table["object_id"].is_sorted() and table["cell"].unique().to_list() == [7]
    total = table["n_used"].sum() + table["n_masked"].sum() + table["n_set_aside"].sum()
    assert total == kept.height + gone.height
    for row in (0, 31):
        mine = kept.filter(pl.col("object_id") == table["object_id"][row])
        for place in (0, 50, 101):
            here = mine.filter(pl.col("channel") == int(bands.channel[place]))
            good = [
                (f, e)
                for f, e, flags in here.select("flux", "flux_err", "flags").iter_rows()
                if not flags & reject
            ]
            weights = [1.0 / e**2 for _, e in good]
            mean = sum(w * f for w, (f, _) in zip(weights, good, strict=True)) / sum(weights)
            chi2 = sum(w * (f - mean) ** 2 for w, (f, _) in zip(weights, good, strict=True))
            assert table["flux"][row][place] == pytest.approx(mean, rel=1e-6, abs=1e-6)
            assert table["flux_err"][row][place] == pytest.approx(sum(weights) ** -0.5, rel=1e-6)
            assert table["n_exposures"][row][place] == len(good)
            if len(good) > 1:
                assert table["repeat_chi2"][row][place] == pytest.approx(chi2, rel=1e-5, abs=1e-6)


def test_a_channel_without_exposures_is_masked_and_a_source_without_any_keeps_its_row(
    deliver: Deliver, bands: BandSet
):
    kept, gone = _kept(*deliver(), bands)
    poor = kept["object_id"][0]
    lost = (
        kept.filter(pl.col("object_id") == poor).drop("channel").with_columns(reason=pl.lit("flux_outlier"))
    )
    rest = kept.filter((pl.col("object_id") != poor) & (pl.col("channel") != 3))
    table = bin_exposures(rest, bands, 0, 1, pl.concat([gone, lost.select(gone.columns)]))
    nothing = table.filter(pl.col("object_id") == poor)
    assert nothing["n_bands"][0] == 0 and nothing["n_set_aside"][0] == lost.height
    place = int(np.flatnonzero(bands.channel == 3)[0])
    assert np.isnan(table["flux"].to_numpy()[:, place]).all()
    assert np.isinf(table["flux_err"].to_numpy()[:, place]).all()


def test_measurements_are_the_exposures_in_use_by_wavelength(deliver: Deliver, bands: BandSet):
    kept, gone = _kept(*deliver(), bands)
    reject = reject_mask("tool")
    photometry = bin_exposures(kept, bands, reject, 7, gone)
    poor = photometry["object_id"][2]
    rest = kept.filter(pl.col("object_id") != poor)
    table = measurement_table(rest, photometry, reject)
    assert table["object_id"].equals(photometry["object_id"])
    assert table["measured_flux"].list.len()[2] == 0
    for row in (0, 5):
        mine = kept.filter(pl.col("object_id") == table["object_id"][row], (pl.col("flags") & reject) == 0)
        assert table["measured_flux"].list.len()[row] == mine.height == photometry["n_used"][row]
        wave = table["measured_wave_um"][row]
        assert wave.is_sorted()
        expected = mine.sort("lambda")
        for name, column in (("flux", "flux"), ("flux_err", "flux_err"), ("width_um", "lambda_width")):
            np.testing.assert_allclose(table[f"measured_{name}"][row], expected[column], rtol=1e-6)
        assert table["measured_flags"][row].to_list() == expected["flags"].to_list()
        place = 40
        here = mine.filter(pl.col("channel") == int(bands.channel[place]))
        offset = np.average(np.log(here["lambda"] / bands.wave_um[place]), weights=here["flux_err"] ** -2)
        assert photometry["wave_offset"][row][place] == pytest.approx(offset, abs=1e-7)


def test_exposures_scatter_about_the_sky_at_their_own_wavelength_by_their_errors(
    deliver: Deliver, sources: pl.DataFrame, bands: BandSet
):
    """A binned flux has no such truth: it averages the sky over the wavelengths of its exposures."""
    kept, _ = _kept(*deliver(), bands)
    identity = source_id(sources["ra"].to_numpy(), sources["dec"].to_numpy())
    place = {key: row for row, key in enumerate(identity.tolist())}
    own = sources[[place[key] for key in kept["object_id"].to_list()]]
    wave, width = (kept[name].to_numpy()[:, None] for name in ("lambda", "lambda_width"))
    true = ChannelSky(bands).fluxes(own, wave, width)[:, 0]
    chi = (kept["flux"].to_numpy() - true) / kept["flux_err"].to_numpy()
    assert stats.kstest(chi, "norm").pvalue > 1e-4
    ratio = np.median(bin_exposures(kept, bands, 0, 1)["flux_err"].to_numpy() / bands.depth_mev_ujy)
    assert ratio == pytest.approx(1.0, abs=0.02)  # a per cent of exposures is lost


def test_a_source_has_the_same_exposures_whoever_its_neighbours_are(sources: pl.DataFrame, bands: BandSet):
    spec = DeliverySpec("r1", seed=4)
    alone, among = exposures(sources[5:6], bands, spec), exposures(sources, bands, spec)
    mine = among.filter(pl.col("ra") == sources["ra"][5])
    assert alone.equals(mine)


def test_delivering_again_replaces_the_folder(deliver: Deliver):
    folder, first = deliver(rows_per_file=9000)
    _, second = deliver()
    assert len(first.files) > len(second.files)
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json",
        NOTE,
        *(file.name for file in second.files),
    }
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
    shutil.rmtree(folder)
    assert write_manifest(folder, second).is_file()
