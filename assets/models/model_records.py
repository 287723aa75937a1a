"""What is kept about a trained model, in MLflow, in Dagster and beside the weights: numbers, curves, plots."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from paeplatform.config import Preset

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from paeplatform.fit_record import EpochRecord, FitResult
    from paeplatform.inference.importance.proposal_check import ProposalCheck
    from paeplatform.pae.autoencoder import Autoencoder
    from paeplatform.pae.flow import LatentFlow
    from paeplatform.resources.models.runs import TrainingRun
    from paeplatform.sbi.check import SbiCheck

N_PLOTTED = 4000  # latents drawn in a scatter plot


@dataclass(frozen=True)
class Record:
    """Numbers and plots of one trained model, and the training's own, from which its curves can be drawn again."""

    fit: "FitResult"
    metrics: Mapping[str, float | int | str]
    figures: Mapping[str, "Figure"]

    @classmethod
    def of(
        cls, label: str, fit: "FitResult", metrics: Mapping[str, Any], figures: Mapping[str, "Figure"]
    ) -> "Record":
        """Adds to what a model shows how its training went; `label` names the training curves."""
        from paeplatform.figures.models import training_curves

        curves = training_curves({label: _history(fit)}, {label: fit.best_epoch})
        return cls(fit, {**metrics, **_fit_numbers(fit)}, {**figures, "training_curves": curves})

    def log(self, run: "TrainingRun") -> None:
        """Logs everything to MLflow, with the epochs that a resumed training has not logged itself."""
        for epoch in self.fit.history[: self.fit.resumed_from]:
            log_epoch(run, epoch)
        run.log_metrics({name: value for name, value in self.metrics.items() if not isinstance(value, str)})
        for name, figure in self.figures.items():
            run.log_figure(figure, name)
        run.log_json(self._numbers(), "record.json")

    def write(self, folder: Path) -> None:
        """Writes record.json and the plots beside the weights, for the report."""
        from paeplatform.figures.style import figure_png

        (folder / "record.json").write_text(json.dumps(self._numbers(), indent=1))
        for name, figure in self.figures.items():
            (folder / f"{name}.png").write_bytes(figure_png(figure))

    def _numbers(self) -> dict[str, Any]:
        return {"metrics": dict(self.metrics), "history": _history(self.fit)}


def log_epoch(run: "TrainingRun", epoch: "EpochRecord") -> None:
    """One point of the training curves, live."""
    run.log_metrics(
        {
            "train_loss": epoch.train_loss,
            "validation_loss": epoch.validation_loss,
            "learning_rate": epoch.learning_rate,
        },
        step=epoch.epoch,
    )


def record_autoencoder(
    preset: Preset, model: "Autoencoder", fit: "FitResult", spectra: "np.ndarray"
) -> Record:
    """Judges an autoencoder on those of the training set's spectra (n, n_wave) that it was not trained on."""
    import numpy as np

    from paeplatform.figures.models import example_spectra, reconstruction_error
    from paeplatform.pae.training import decode_latents, encode_spectra, split_indices
    from paeplatform.sed.grid import rest_grid

    held_out = spectra[
        split_indices(len(spectra), preset.pae.autoencoder.fit.validation_fraction, preset.seed)[1]
    ]
    reconstruction = decode_latents(model, encode_spectra(model, held_out))
    error = (reconstruction - held_out) ** 2
    mse, wave = error.mean(axis=1), rest_grid(preset.rest_grid)
    shown = np.argsort(mse)[np.linspace(0, len(mse) - 1, 4).astype(int)]
    titles = [
        f"{name}: MSE {mse[i]:.1e}" for name, i in zip(("best", "good", "poor", "worst"), shown, strict=True)
    ]
    return Record.of(
        "autoencoder",
        fit,
        metrics={
            "median_mse": float(np.median(mse)),
            "p95_mse": float(np.percentile(mse, 95)),
            "held_out": len(held_out),
        },
        figures={
            "reconstruction_error": reconstruction_error(mse, wave, error.mean(axis=0)),
            "example_spectra": example_spectra(wave, held_out[shown], reconstruction[shown], titles),
        },
    )


def record_flow(model: "LatentFlow", fit: "FitResult", held_out: "np.ndarray", z: "np.ndarray") -> Record:
    """Judges a flow on held-out latents (n, n_latent) of spectra at z (n,): in its base they should be N(0, I)."""
    from paeplatform.figures.models import latent_distributions
    from paeplatform.pae.training import base_moments, latents_to_base

    moments = base_moments(model, held_out, z)
    shown = held_out[:N_PLOTTED]
    return Record.of(
        "flow",
        fit,
        metrics={
            **{name: value for name, value in moments.items() if not isinstance(value, list)},
            "held_out": len(held_out),
        },
        figures={
            "latent_distributions": latent_distributions(shown, latents_to_base(model, shown, z[:N_PLOTTED])),
        },
    )


def record_proposal(fit: "FitResult", check: "ProposalCheck") -> Record:
    """Judges a proposal on simulated sources it was not trained on: its ranks of the truth should be uniform."""
    import numpy as np

    from paeplatform.figures.models import proposal_recovery
    from paeplatform.scores.calibration import ks_distance_to_uniform

    error = np.abs(check.z_median - check.z_true) / (1.0 + check.z_true)
    return Record.of(
        "proposal",
        fit,
        metrics={
            "ks_z": ks_distance_to_uniform(check.pit),
            "ks_u_largest": max(ks_distance_to_uniform(column) for column in check.pit_u.T),
            "median_error": float(np.median(error)),
            "simulated": len(check.z_true),
        },
        figures={
            "proposal_recovery": proposal_recovery(check.z_true, check.z_median, check.pit),
        },
    )


def record_sbi(fit: "FitResult", check: "SbiCheck") -> Record:
    """Judges an SBI network on sources it was not trained on: its ranks of the truth should be uniform."""
    from paeplatform.figures.models import proposal_recovery
    from paeplatform.scores.metrics import METRICS

    error = (check.z_median - check.z_true) / (1.0 + check.z_median)
    return Record.of(
        "sbi",
        fit,
        metrics={
            "ks_z": METRICS["pit_ks"].of(check.pit),
            **{name: METRICS[name].of(check.pit) for name in ("coverage_50", "coverage_68", "coverage_95")},
            "nmad_paper": METRICS["nmad_paper"].of(error),
            "log_score": float(check.log_prob.mean()),
            "unlike_training": check.flagged,
            "simulated": len(check.z_true),
        },
        figures={
            "redshift_recovery": proposal_recovery(check.z_true, check.z_median, check.pit),
        },
    )


def write_setting(folder: Path, preset: Preset, prior: pl.DataFrame, bands: pl.DataFrame) -> Path:
    """Writes what the bundle needs beside its weights to answer by itself: preset, prior and bands."""
    from paeplatform.inference.model.priors import prior_from_preset, prior_to_dict

    folder.mkdir(parents=True)
    (folder / "preset.json").write_text(preset.model_dump_json(indent=1))
    chosen = prior_to_dict(prior_from_preset(preset.prior, prior.row(0, named=True)))
    (folder / "prior.json").write_text(json.dumps(chosen))
    bands.write_csv(folder / "bands.csv")
    return folder


def example_photometry(n_bands: int) -> object:
    """One source's worth of input, as it is shown in the registry."""
    import pandas as pd

    return pd.DataFrame({"flux": [[20.0] * n_bands], "flux_err": [[2.0] * n_bands]})


def _history(fit: "FitResult") -> dict[str, list]:
    names = ("epoch", "train_loss", "validation_loss")
    return {name: [getattr(epoch, name) for epoch in fit.history] for name in names}


def _fit_numbers(fit: "FitResult") -> dict[str, Any]:
    return {
        "epochs": len(fit.history),
        "best_epoch": fit.best_epoch,
        "best_validation_loss": fit.history[fit.best_epoch - 1].validation_loss,
        "stopped_by": fit.stopped,
        "seconds": round(fit.seconds, 1),
    }
