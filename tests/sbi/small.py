"""Problems small enough for seconds, with the sizes of a network that learns them."""

import numpy as np
import torch

from paeplatform.config import SbiBankConfig, SbiConfig
from paeplatform.sbi.bank import TrainingBank
from paeplatform.sbi.domain import trained_range
from paeplatform.sbi.model import SbiModel, build_model
from paeplatform.sbi.noise import observe

N_BAND = 17
DEPTH = np.linspace(1.0, 2.0, N_BAND)
Z_LIMITS = (0.01, 3.0)
QUIET = SbiBankConfig(visit_loss_max=0.001, error_scatter=0.0, depth_scatter=0.0, mask_probability=0.0)


def small_config(**changes) -> SbiConfig:
    tree = {
        "encoder": {"width": 16, "n_layers": 2, "n_heads": 2, "global_widths": (32,)},
        "head": {"hidden": 32, "n_components": 3, "n_knots": 6},
        "bank": {"n_sources": 500},
        "fit": {"epochs": 2, "batch_size": 64, "learning_rate": 3e-3},
        "device": "cpu",
    }
    for section, values in changes.items():
        tree[section] = {**tree[section], **values} if isinstance(values, dict) else values
    return SbiConfig.model_validate(tree)


def random_bank(n: int = 500, seed: int = 3) -> TrainingBank:
    """A bump whose place follows ln(1+z), of random brightness; copies of n / 5 sources."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.05, 2.5, n)
    place = np.log1p(z) / np.log1p(3.0) * N_BAND
    bump = np.exp(-0.5 * ((np.arange(N_BAND) - place[:, None]) / 1.5) ** 2)
    mag = rng.uniform(19.0, 22.0, n)
    flux = 10.0 ** (-0.4 * (mag - 24.0))[:, None] * bump
    return TrainingBank(
        flux.astype(np.float32), z.astype(np.float32), mag.astype(np.float32), np.arange(n) // 5
    )


def fresh_model(cfg: SbiConfig | None = None, seed: int = 1, scatter: float = 0.5) -> SbiModel:
    """A network with random weights of some size, so that its densities have structure, and a trained range."""
    model = build_model(cfg or small_config(), DEPTH, Z_LIMITS, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, part in model.head.named_parameters():
            if name.endswith("weight"):
                part += scatter / part.shape[1] ** 0.5 * torch.randn(part.shape, generator=generator)
    seen = observe(torch.as_tensor(random_bank().flux), model.depth, SbiBankConfig(), generator)
    model.trained_range = trained_range(model.eval(), seen)
    return model


def noisy(bank: TrainingBank, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return bank.flux + DEPTH * rng.standard_normal(bank.flux.shape), np.broadcast_to(
        DEPTH, bank.flux.shape
    ).copy()
