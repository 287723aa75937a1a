"""`paeplatform infer` on files of the user's: good ones in a process of their own, bad ones up to their one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import polars as pl
import pytest
import yaml
from astropy.table import Table

from paeplatform.config import load_preset
from paeplatform.inference.model.forward_model import build_forward
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.pae.autoencoder import build_autoencoder
from paeplatform.pae.bundle import PaeBundle, save_bundle
from paeplatform.pae.flow import build_flow

N_LATENT = 2
Z_TRUE = [0.4, 0.9, 1.2, 0.6]


def small_bundle() -> PaeBundle:
    """Untrained, around a spectrum with a break and a bump; of few layers, since compiling takes the time here."""
    pae = load_preset("demo").pae
    compact = {"encoder_widths": (8,), "decoder_widths": (8,), "n_components": 4}
    tree = pae.model_dump()
    tree["autoencoder"]["compact"] = compact
    tree["flow"] |= {"n_layers": 2, "n_knots": 4, "width": 8, "depth": 1}
    pae = type(pae).model_validate(tree)
    wave = np.linspace(0.1, 5.0, 500)
    mean = 0.2 + 1.0 / (1.0 + np.exp(-(wave - 0.4) / 0.02)) + np.exp(-0.5 * ((wave - 1.6) / 0.2) ** 2)
    autoencoder = build_autoencoder(
        pae.autoencoder, N_LATENT, 500, key=jr.key(0), mean_spectrum=mean / mean.mean()
    )
    flow = build_flow(pae.flow, jr.normal(jr.key(1), (500, N_LATENT)), key=jr.key(2))
    return PaeBundle(autoencoder, flow, pae, N_LATENT, wave, load_bands().content_hash(), "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a preset with short chains, and photometry of which the third and fourth source have faults."""
    folder = tmp_path_factory.mktemp("infer")
    bundle = small_bundle()
    save_bundle(bundle, folder / "bundle")
    tree = load_preset("demo").model_dump(mode="json")
    tree["mclmc"] |= {"n_burnin": 40, "n_tune": 40, "n_steps": 120, "n_discard": 40, "init_draws": 256}
    tree["mclmc"] |= {"batch_size": 4}
    tree["instrument"] |= {"n_redshift_nodes": 512}
    tree["prior"] |= {"redshift": "uniform", "z_min": 0.05, "z_max": 2.0}
    (folder / "quick.yaml").write_text(yaml.safe_dump(tree))
    (folder / "prior.csv").write_text("# by eye\nz,density\n0.05,1\n0.5,3\n2.0,0.5\n")
    forward = build_forward(bundle, gaussian_filters(load_bands()), 2.0, 512)
    flux = np.stack([np.asarray(forward(jnp.zeros(N_LATENT), jnp.asarray(z))) for z in Z_TRUE]) * 50.0
    flux_err = np.full_like(flux, 5.0)
    flux = flux + flux_err * np.random.default_rng(1).normal(size=flux.shape)
    flux_err[2] = 0.0
    flux[3, 7], flux_err[3, 9] = np.nan, np.inf
    np.savez(folder / "photometry.npz", flux=flux, flux_err=flux_err)
    return folder


def photometry(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "photometry.npz", allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.float64) for name in ("flux", "flux_err")}


def infer(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own: JAX takes its devices and its cache folder once a process."""
    program = [sys.executable, "-c", "from paeplatform.cli import main; main()", "infer"]
    options = ["--bundle", folder / "bundle", "--preset", folder / "quick.yaml", "--home", folder / "home"]
    command = [str(argument) for argument in (*program, *arguments, *options)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def parquet_run(folder: Path) -> tuple[dict, pl.DataFrame]:
    """What the command says in JSON, and the table it wrote."""
    arrays = photometry(folder)
    columns = {
        name: pl.Series(name, values.tolist(), dtype=pl.Array(pl.Float64, 102))
        for name, values in arrays.items()
    }
    table = pl.DataFrame(
        {"object_id": [40, 10, 30, 20], "z_true": Z_TRUE, "pae_status": ["old"] * 4} | columns
    )
    table.write_parquet(folder / "galaxies.parquet")
    ended = infer(folder, folder / "galaxies.parquet", "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout), pl.read_parquet(folder / "galaxies_photoz.parquet")


def test_every_galaxy_gets_a_row_in_order_with_its_own_columns(parquet_run: tuple) -> None:
    _, table = parquet_run
    assert table["object_id"].to_list() == [40, 10, 30, 20]
    assert table["z_true"].to_list() == Z_TRUE
    assert table["pae_z_median"].is_null().to_list() == [False, False, True, False]
    assert table["pae_status"].to_list()[2] == "failed" and "old" not in table["pae_status"]
    assert table["input_fault"].to_list() == [
        None,
        None,
        "no_usable_band,error_not_positive",
        "flux_not_finite",
    ]
    assert table["pae_n_bands"].to_list() == [102, 102, 0, 100]
    assert table["prior_id"].n_unique() == 1 and table["prior_id"][0].startswith("uniform-")
    assert "flux" not in table.columns


def test_json_sums_the_table_up(parquet_run: tuple, folder: Path) -> None:
    said, table = parquet_run
    assert said["sources"] == 4
    assert said["status"] == dict(table.group_by("pae_status").len().iter_rows())
    assert said["flags"]["NO_POSTERIOR"] == 1
    assert said["input_faults"] == {"no_usable_band,error_not_positive": 1, "flux_not_finite": 1}
    sigma = np.nanmedian(
        table.select(pl.col("pae_z_std") / (1 + pl.col("pae_z_median"))).fill_null(np.nan).to_numpy()
    )
    assert said["median_sigma"] == pytest.approx(sigma, abs=1e-6)
    assert said["output"] == str(folder / "galaxies_photoz.parquet")
    assert any("pae_status" in warning for warning in said["warnings"])


@pytest.mark.slow
def test_fits_in_another_unit_without_ids_under_another_prior_for_people(
    parquet_run: tuple, folder: Path
) -> None:
    table = Table({name: values / 1e3 for name, values in photometry(folder).items()})
    table["flux"].unit = table["flux_err"].unit = "mJy"
    table.write(folder / "deep.fits", overwrite=True)
    out = folder / "new" / "deep_z.csv"
    ended = infer(folder, folder / "deep.fits", "-o", out, "--prior", folder / "prior.csv")
    assert ended.returncode == 0, ended.stderr
    text = " ".join(ended.stdout.split())
    assert "status failed 1 25.0" in text and "input flux_not_finite 1 25.0" in text
    assert "prior tabulated-" in text and "rows are numbered from 0" in text
    assert "cannot hold pae_z_quantiles" in text and f"written to {out}" in text
    rows = pl.read_csv(out)
    assert rows["object_id"].to_list() == [0, 1, 2, 3]
    assert rows["pae_n_bands"].to_list() == [102, 102, 0, 100]


def one_line(outcome, *parts: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1
    for part in parts:
        assert part in outcome.err


GOOD = "object_id," + ",".join(f"{q}_{b}" for q in ("flux", "flux_err") for b in range(1, 103))
ROW = "7" + ",1" * 204 + "\n"


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("none.csv", None, ("none.csv", "does not exist")),
        ("image.png", "x", ("image.png",)),
        ("short.csv", "flux_1,flux_err_1\n1,1\n", ("short.csv", "flux_2 is missing", "flux_102")),
        ("word.csv", f"{GOOD}\n1,{'1,' * 203}faint\n", ("word.csv", "flux_err_102, row 0", "'faint'")),
        ("twice.csv", f"{GOOD}\n{ROW}{ROW}", ("twice.csv", "object_id: 7", "rows 0 and 1")),
        ("noise.fits", "SIMPLE", ("noise.fits", "not a readable FITS")),
    ],
)
def test_bad_files_end_in_one_line_and_write_nothing(
    command: Callable, tmp_path: Path, home: Path, name: str, text: str | None, parts: tuple[str, ...]
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    one_line(command("infer", path, "--bundle", tmp_path, "--home", home), *parts)
    assert list(home.iterdir()) == [] and not list(tmp_path.glob("*photoz*"))


@pytest.fixture
def good_file(tmp_path: Path) -> Path:
    path = tmp_path / "good.csv"
    path.write_text(f"{GOOD}\n{ROW}")
    return path


def test_bad_options_end_in_one_line(command: Callable, good_file: Path, tmp_path: Path, home: Path) -> None:
    def refused(*options: object, parts: tuple[str, ...]) -> None:
        one_line(command("infer", good_file, "--home", home, *options), *parts)

    refused("--bundle", tmp_path, "--alias", "champion", parts=("--bundle or --alias",))
    refused("--method", "magic", parts=("--method magic", "mclmc"))
    refused("--prior", "flat", parts=("--prior flat", "uniform, bpz"))
    refused("--prior", tmp_path / "none.csv", parts=("none.csv", "does not exist"))
    refused("--prior", good_file, parts=("good.csv", "column z is missing"))
    refused("-o", tmp_path / "out.txt", parts=("out.txt", ".parquet, .csv, .fits"))
    refused("-o", good_file, parts=("good.csv", "photometry itself"))
    refused("--prior", "bpz", "--bundle", tmp_path, parts=("redshift_prior",))
    refused("--plot", parts=("good.csv", "102 channels", "--plot"))
    refused("--unit", "mJy", "--ebv-mw", 0.1, parts=("good.csv", "--unit, --ebv-mw"))
    refused("--prior", "uniform", "--alias", "champion", parts=("pae@champion",))
    refused("--prior", "uniform", "--alias", "best", parts=("pae@best",))
    assert not (home / "mlruns").exists() and not list(tmp_path.glob("*photoz*"))


def test_help_shows_an_example(command: Callable) -> None:
    shown = command("infer", "--help")
    assert shown.code == 0
    assert "paeplatform infer my_export.csv --plot" in shown.out and "flux_err" in shown.out
