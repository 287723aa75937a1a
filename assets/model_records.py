"""What is kept about a trained model, in MLflow, in Dagster and beside the weights: numbers, curves, plots."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from assets.metadata import plot
from paeplatform.config import Preset

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from paeplatform.fit_record import EpochRecord, FitResult
    from paeplatform.inference.proposal_check import ProposalCheck
    from paeplatform.pae.autoencoder import Autoencoder
    from paeplatform.pae.flow import LatentFlow
    from paeplatform.sbi.check import SbiCheck
    from resources.registry import TrainingRun

N_PLOTTED = 4000  # latents drawn in a scatter plot


@dataclass(frozen=True)
class Record:
    """Numbers and plots of one training, and the arrays the report needs to draw the same plots again."""

    metrics: Mapping[str, float | int | str]
    figures: Mapping[str, "Figure"]
    history: Mapping[str, list]

    def log(self, run: "TrainingRun", fit: "FitResult") -> None:
        """Logs everything to MLflow, with the epochs that a resumed training has not logged itself."""
        for epoch in fit.history[: fit.resumed_from]:
            log_new_epochs(run, epoch)
        run.log_metrics({name: value for name, value in self.metrics.items() if not isinstance(value, str)})
        for name, figure in self.figures.items():
            run.log_figure(figure, name)
        run.log_json({"metrics": dict(self.metrics), "history": dict(self.history)}, "record.json")

    def write(self, folder: Path) -> None:
        """Writes record.json and the plots beside the weights, for the report."""
        from paeplatform.validation.figures import figure_png

        content = {"metrics": dict(self.metrics), "history": dict(self.history)}
        (folder / "record.json").write_text(json.dumps(content, indent=1))
        for name, figure in self.figures.items():
            (folder / f"{name}.png").write_bytes(figure_png(figure))


def log_new_epochs(run: "TrainingRun", epoch: "EpochRecord") -> None:
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
    """Judges an autoencoder on the spectra it was not trained on.

    Args:
        preset: names the split and the grid.
        model: trained.
        fit: its training.
        spectra: (n, n_wave), all of the training set.
    """
    import numpy as np

    from paeplatform.pae.training import decode_latents, encode_spectra, split_indices
    from paeplatform.sed.grid import rest_grid
    from paeplatform.validation.figures import example_spectra, reconstruction_error, training_curves

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
    return Record(
        metrics={
            "median_mse": float(np.median(mse)),
            "p95_mse": float(np.percentile(mse, 95)),
            "held_out": len(held_out),
            **_fit_numbers(fit),
        },
        figures={
            "reconstruction_error": reconstruction_error(mse, wave, error.mean(axis=0)),
            "example_spectra": example_spectra(wave, held_out[shown], reconstruction[shown], titles),
            "training_curves": training_curves(
                {"autoencoder": _history(fit)}, {"autoencoder": fit.best_epoch}
            ),
        },
        history=_history(fit),
    )


def record_flow(model: "LatentFlow", fit: "FitResult", held_out: "np.ndarray") -> Record:
    """Judges a flow on held-out latents (n, n_latent): in its base they should be N(0, I)."""
    from paeplatform.pae.training import base_moments, latents_to_base
    from paeplatform.validation.figures import latent_distributions, training_curves

    moments = base_moments(model, held_out)
    shown = held_out[:N_PLOTTED]
    return Record(
        metrics={
            **{name: value for name, value in moments.items() if not isinstance(value, list)},
            "held_out": len(held_out),
            **_fit_numbers(fit),
        },
        figures={
            "latent_distributions": latent_distributions(shown, latents_to_base(model, shown)),
            "training_curves": training_curves({"flow": _history(fit)}, {"flow": fit.best_epoch}),
        },
        history=_history(fit),
    )


def record_proposal(fit: "FitResult", check: "ProposalCheck") -> Record:
    """Judges a proposal on simulated sources it was not trained on: its ranks of the truth should be uniform."""
    import numpy as np

    from paeplatform.validation.calibration import ks_distance_to_uniform
    from paeplatform.validation.figures import proposal_recovery, training_curves

    error = np.abs(check.z_median - check.z_true) / (1.0 + check.z_true)
    return Record(
        metrics={
            "ks_z": ks_distance_to_uniform(check.pit),
            "ks_u_largest": max(ks_distance_to_uniform(column) for column in check.pit_u.T),
            "median_error": float(np.median(error)),
            "simulated": len(check.z_true),
            **_fit_numbers(fit),
        },
        figures={
            "proposal_recovery": proposal_recovery(check.z_true, check.z_median, check.pit),
            "training_curves": training_curves({"proposal": _history(fit)}, {"proposal": fit.best_epoch}),
        },
        history=_history(fit),
    )


def record_sbi(fit: "FitResult", check: "SbiCheck") -> Record:
    """Judges an SBI network on sources it was not trained on: its ranks of the truth should be uniform."""
    import numpy as np

    from paeplatform.validation.calibration import ks_distance_to_uniform
    from paeplatform.validation.figures import proposal_recovery, training_curves

    error = np.abs(check.z_median - check.z_true) / (1.0 + check.z_median)
    coverage = {
        f"coverage_{level}": float(np.mean(np.abs(check.pit - 0.5) <= level / 200.0))
        for level in (50, 68, 95)
    }
    return Record(
        metrics={
            "ks_z": ks_distance_to_uniform(check.pit),
            **coverage,
            "nmad_paper": 1.4 * float(np.median(error)),
            "log_score": float(check.log_prob.mean()),
            "unlike_training": check.flagged,
            "simulated": len(check.z_true),
            **_fit_numbers(fit),
        },
        figures={
            "redshift_recovery": proposal_recovery(check.z_true, check.z_median, check.pit),
            "training_curves": training_curves({"sbi": _history(fit)}, {"sbi": fit.best_epoch}),
        },
        history=_history(fit),
    )


def write_setting(folder: Path, preset: Preset, prior: pl.DataFrame, bands: pl.DataFrame) -> Path:
    """Writes what the bundle needs beside its weights to answer by itself: preset, prior and bands."""
    from paeplatform.inference.priors import prior_to_dict, redshift_prior

    folder.mkdir(parents=True)
    (folder / "preset.json").write_text(preset.model_dump_json(indent=1))
    chosen = prior_to_dict(redshift_prior(preset.prior, prior.row(0, named=True)))
    (folder / "prior.json").write_text(json.dumps(chosen))
    bands.write_csv(folder / "bands.csv")
    return folder


def content_of(folder: Path) -> str:
    """The content hash a model's folder was registered under."""
    return (folder / "content.txt").read_text()


def model_tags(preset: Preset, content: str, n_latent: int) -> dict[str, object]:
    """Tags that every part of a PAE has."""
    return training_tags(preset, content) | {"n_latent": n_latent}


def training_tags(preset: Preset, content: str) -> dict[str, object]:
    """Tags that every registered model has."""
    return {"content": content, "preset": preset.name, "preset_digest": preset.digest()}


def trained(
    folder: Path, content: str, record: Record, links: Mapping[str, dg.MetadataValue]
) -> dg.MaterializeResult[Path]:
    """What an asset that trained a model returns; notes the content hash beside the weights."""
    (folder / "content.txt").write_text(content)
    return dg.MaterializeResult(
        value=folder,
        data_version=dg.DataVersion(content),
        metadata={
            **record.metrics,
            **{name: plot(figure) for name, figure in record.figures.items()},
            **links,
        },
    )


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
