"""Simulation-based inference: galaxies an hour, and how good the trained `standard` network is.

Rates are of networks with weights of any kind, since weights cost no time. `bound` is what the encoder's matrix
products alone allow at the speed of the largest square product of this machine. Quality is that of the @champion of
`sbi-redshift` under PAEPLATFORM_BENCH_HOME, trained there first when there is none, on mock sources of the release's
selection from a catalogue and noise of a seed of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.standard import HOME, ROOT
from benchmarks.timing import best_seconds, figure, less_is_better
from paeplatform.config import Preset, SbiConfig, load_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.sbi.bundle import load_sbi
from paeplatform.sbi.domain import trained_range
from paeplatform.sbi.inference import at_redshift, estimate_sbi
from paeplatform.sbi.model import SbiModel, build_model, n_parameters
from paeplatform.sbi.noise import Photometry, as_photometry
from paeplatform.scores.frozen_sources import draw_known_sources
from paeplatform.scores.metrics import METRICS, nmad_paper
from paeplatform.sed.library import load_library

TARGET_PER_HOUR = 1_000_000.0
TARGET_KS = 0.03
TARGET_POINTS = 3.0  # of percent, between coverage and its level
TARGET_TRAINING_S = 3600.0
N_SOURCES = 4096
N_PAPER = 256  # its encoder is slow on a CPU
BRIGHT_Z_AB = 20.0
SQUARE = 3000


def run() -> list[dict[str, Any]]:
    """A minute or two on two idle cores beside the training."""
    standard, paper = load_preset("standard"), load_preset("paper")
    test = draw_known_sources(_larger(standard, N_SOURCES), load_library(), load_bands())
    flux, flux_err = (np.asarray(test[name].to_numpy(), dtype=np.float32) for name in ("flux", "flux_err"))
    rate = _gemm_rate()
    figures = []
    for preset, n in ((standard, N_SOURCES), (paper, N_PAPER)):
        model = _untrained(preset, flux, flux_err)
        figures += _rates(preset, model, flux[:n], flux_err[:n], rate)
    return [
        *figures,
        figure("sbi_gemm_rate", rate / 1e9, "GFLOP/s", None, None, more=True),
        *_quality(standard, test, flux, flux_err),
    ]


def _rates(
    preset: Preset, model: SbiModel, flux: np.ndarray, flux_err: np.ndarray, rate: float
) -> list[dict[str, Any]]:
    """Galaxies an hour of the encoder alone, and with densities and summaries."""
    seen = _seen(flux, flux_err)
    parts = [
        Photometry(*(part[low : low + preset.sbi.batch_size] for part in seen))
        for low in range(0, len(flux), preset.sbi.batch_size)
    ]

    @torch.inference_mode()
    def encode() -> None:
        for part in parts:
            model.context(part)

    with FlopCounterMode(display=False) as counter:
        encode()
    bound = 3600.0 * rate / (counter.get_total_flops() / len(flux))
    identity = np.arange(len(flux))

    def estimate() -> None:
        estimate_sbi(model, flux, flux_err, identity, preset.sbi, progress=False)

    target = TARGET_PER_HOUR if preset.name == "standard" else None
    whole, encoder = (3600.0 * len(flux) / best_seconds(work, 3) for work in (estimate, encode))
    name = f"sbi_{preset.name}"
    return [
        figure(f"{name}_galaxies_per_hour", whole, "1/h", target, bound, more=True),
        figure(f"{name}_encoder_galaxies_per_hour", encoder, "1/h", None, bound, more=True),
        figure(f"{name}_parameters", n_parameters(model), "", None, None),
    ]


def _quality(
    preset: Preset, test: pl.DataFrame, flux: np.ndarray, flux_err: np.ndarray
) -> list[dict[str, Any]]:
    """Calibration and scatter of the trained network, as a catalogue has them."""
    model, seconds = champion_and_seconds()
    z_true = test["z_true"].to_numpy().astype(np.float64)
    pit, log_prob = at_redshift(model, flux, flux_err, z_true)
    cfg = SbiConfig(summaries=preset.sbi.summaries)
    table = estimate_sbi(model, flux, flux_err, test["object_id"].to_numpy(), cfg, progress=False)
    mean, median = (table[f"sbi_z_{name}"].cast(pl.Float64).to_numpy() for name in ("mean", "median"))
    bright = test["mag_z"].to_numpy() < BRIGHT_Z_AB
    ks = METRICS["pit_ks"].of(pit)
    coverage = {level: 100.0 * METRICS[f"coverage_{level}"].of(pit) for level in (50, 68, 95)}
    flagged = float((table["sbi_status"] != "converged").mean() or 0.0)  # type: ignore[arg-type]
    return [
        less_is_better("sbi_pit_ks", ks, "", TARGET_KS, None),
        *(
            less_is_better(
                f"sbi_coverage_{level}_off_by", abs(share - level), "percentage points", TARGET_POINTS, None
            )
            for level, share in coverage.items()
        ),
        less_is_better("sbi_nmad", nmad_paper(mean, z_true), "", None, None),
        less_is_better("sbi_nmad_of_median", nmad_paper(median, z_true), "", None, None),
        less_is_better("sbi_nmad_zab_below_20", nmad_paper(mean[bright], z_true[bright]), "", None, None),
        figure("sbi_log_score", float(log_prob.mean()), "nat", None, None, more=True),
        less_is_better("sbi_flagged_unlike_training", flagged, "", None, None),
        less_is_better("sbi_training", seconds, "s", TARGET_TRAINING_S, None),
    ]


def champion_and_seconds() -> tuple[SbiModel, float]:
    """(champion, seconds its training took); trained first when there is none."""
    from paeplatform.cli.options import settings_for
    from paeplatform.resources.registry import SBI, ModelRegistry

    settings = settings_for(HOME, "standard")
    registry = ModelRegistry.from_settings(settings)
    if registry.find_alias(SBI) is None:
        print(f"no {SBI} in {HOME}: training preset standard there first", file=sys.stderr)
        command = "from paeplatform.cli import main; main()"
        arguments = ["run", "--preset", "standard", "--home", str(HOME), "--select", "sbi_champion"]
        subprocess.run([sys.executable, "-c", command, *arguments], check=True, cwd=ROOT)
    model, _ = load_sbi(registry.artifact(registry.by_alias(SBI), "sbi"))
    record = json.loads((settings.store / "models" / "sbi_model" / "record.json").read_text())
    return model, float(record["metrics"]["seconds"])


def _untrained(preset: Preset, flux: np.ndarray, flux_err: np.ndarray) -> SbiModel:
    limits = preset.prior.z_min, preset.prior.z_max
    model = build_model(preset.sbi, load_bands().depth(preset.instrument.depth), limits, seed=1).eval()
    model.trained_range = trained_range(model, _seen(flux[:512], flux_err[:512]))
    return model


def _seen(flux: np.ndarray, flux_err: np.ndarray) -> Photometry:
    return as_photometry(torch.as_tensor(flux), torch.as_tensor(flux_err))


def _larger(preset: Preset, n: int) -> Preset:
    return preset.model_copy(update={"promotion": preset.promotion.model_copy(update={"n_sources": n})})


def _gemm_rate() -> float:
    """Floating point operations a second of a large float32 product."""
    square = torch.rand(SQUARE, SQUARE)
    return 2.0 * SQUARE**3 / best_seconds(lambda: square @ square, 5)


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
