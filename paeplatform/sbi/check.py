"""How well a trained network does on held-out sources of its own bank: what is logged with the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from paeplatform.config import SbiConfig
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.sbi.bank import TrainingBank
from paeplatform.sbi.inference import at_redshift, estimate_sbi
from paeplatform.sbi.model import SbiModel
from paeplatform.sbi.noise import observe
from paeplatform.sbi.training import epoch_generator, split_by_source

N_CHECKED = 4000
_EPOCH = 2**31 - 2  # noise that neither training nor validation has met


@dataclass(frozen=True)
class SbiCheck:
    """Redshifts of held-out sources beside the true ones.

    Attributes:
        z_true: (source,).
        z_median: (source,).
        pit: (source,) P(< z_true); uniform for a calibrated network.
        log_prob: (source,) ln p(z_true).
        flagged: share that `sbi_flags` says is unlike the training set.
    """

    z_true: np.ndarray
    z_median: np.ndarray
    pit: np.ndarray
    log_prob: np.ndarray
    flagged: float


def check_sbi(model: SbiModel, bank: TrainingBank, cfg: SbiConfig, *, seed: int) -> SbiCheck:
    """At most `N_CHECKED` sources of the validation split, with noise of their own.

    Args:
        model: trained on this bank.
        bank: with the validation sources.
        cfg: of the training.
        seed: of the training, which decides the split.
    """
    held_out = split_by_source(bank.source_id, cfg.fit.validation_fraction, seed)[1]
    rows = held_out[np.linspace(0, len(held_out) - 1, min(len(held_out), N_CHECKED)).astype(int)]
    flux_true = torch.as_tensor(bank.flux[rows])
    seen = observe(flux_true, model.depth.cpu(), cfg.bank, epoch_generator(seed, _EPOCH))
    used = seen.used.numpy() > 0.0
    some = used.any(axis=1)
    flux, error = seen.flux.numpy()[some], np.where(used, seen.flux_err.numpy(), np.inf)[some]
    z_true = bank.z[rows].astype(np.float64)[some]
    pit, log_prob = at_redshift(model, flux, error, z_true, device=cfg.device)
    whole = SbiConfig(device=cfg.device)
    table = estimate_sbi(model, flux, error, np.arange(len(flux)), whole, progress=False)
    median = table["sbi_z_quantiles"].to_numpy()[:, len(QUANTILE_LEVELS) // 2]
    flagged = float((table["sbi_status"] == "unlike_training").mean() or 0.0)  # type: ignore[arg-type]
    return SbiCheck(z_true, median.astype(np.float64), pit, log_prob, flagged)
