"""The one typed configuration tree: every size and hyperparameter of a run.

A preset is a YAML file under `paeplatform/presets/` (or a path given by the user) validated into `Preset`. Nothing else
in the science reads settings, and nothing reads the environment. `Preset.digest(...)` gives the short hash that goes
into Dagster code versions and MLflow tags, so that a changed setting makes exactly the affected assets stale.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from paeplatform.errors import ConfigError
from paeplatform.names import LONGEST_NAME, RELEASE_PATTERN

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
UpToOne = Annotated[float, Field(ge=0.0, le=1.0)]


# How two settings of a section may have to stand to each other, as the message says it.
_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "must exceed": operator.gt,
    "must be below": operator.lt,
    "must not exceed": operator.le,
    "must differ from": operator.ne,
    "must be a multiple of": lambda value, divisor: value % divisor == 0,
    "must be one of": lambda value, values: value in values,
}


S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """Settings that cannot be changed, without unknown keys.

    Attributes:
        rules_of_pairs: how some of them must stand to each other, as (name, relation, name).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    rules_of_pairs: ClassVar[tuple[tuple[str, str, str], ...]] = ()

    @model_validator(mode="after")
    def _pairs_agree(self) -> Self:
        for left, relation, right in self.rules_of_pairs:
            first, second = (operator.attrgetter(name)(self) for name in (left, right))
            if not _RELATIONS[relation](first, second):
                raise ValueError(f"{left} {first} {relation} {right} {second}")
        return self


class TemplatesConfig(Section):
    """Which SED library, and the dust laws applied to it."""

    folder: Path | None = None  # a user's own templates (two columns: um, f_nu); None = the packaged 160
    dust_laws: tuple[Literal["prevot", "calzetti", "allen"], ...] = ("prevot", "calzetti", "allen")


class RestGridConfig(Section):
    """The rest-frame wavelength grid of the training spectra (paper section III)."""

    wave_min_um: PositiveFloat = 0.1
    wave_max_um: PositiveFloat = 5.0
    n_wave: Annotated[int, Field(ge=50)] = 800
    # linear, 500 points, is the paper's; it moves lines (decision 20)
    spacing: Literal["log", "linear"] = "log"

    rules_of_pairs = (("wave_max_um", "must exceed", "wave_min_um"),)


class InstrumentConfig(Section):
    """Noise level and the tables of the fast forward operator."""

    depth: Literal["mev", "inflight"] = "mev"
    n_redshift_nodes: Annotated[int, Field(ge=64)] = 1024  # nodes in ln(1+z) of the folded table


class CatalogConfig(Section):
    """The COSMOS-like mock catalogue."""

    n_sources: PositiveInt
    mag_i_min: float = 18.0
    mag_i_max: float = 25.0
    # d log10 N / d i; tuned so that 19 % of 18<i<25 has zAB<23 (paper: 31,492 of 166,014)
    counts_slope: PositiveFloat
    z_max: PositiveFloat = 3.0
    ebv_max: UpToOne = 1.0
    field_ra_deg: float = 150.1  # centre and side of the sky patch that sources are scattered over (COSMOS)
    field_dec_deg: float = 2.2


class TrainingSetConfig(Section):
    """The augmented, noiseless rest-frame training set."""

    n_spectra: PositiveInt
    mag_z_max: float = 23.0
    delta_ebv: PositiveFloat = 0.02  # Gaussian width of the E(B-V) perturbation
    delta_z: PositiveFloat = 0.02  # Gaussian width of the redshift perturbation, in units of 1+z
    # of the spectra to be mixtures of two templates, which fill the space between the 160
    mixed_share: UpToOne = 0.0
    hot_dust_share: UpToOne = 0.0  # of the spectra to have the light of hot dust beside the stars
    chunk_size: PositiveInt = 8192


class FitConfig(Section):
    """The training loop, shared by autoencoder and flow."""

    learning_rate: PositiveFloat
    batch_size: PositiveInt
    epochs: PositiveInt
    schedule: Literal["exponential", "cosine"] = "cosine"
    decay_rate: Fraction = 0.9  # exponential: factor every `decay_epochs`
    decay_epochs: PositiveInt = 5
    patience: PositiveInt = 10
    threshold: NonNegativeFloat = 1e-3  # relative improvement that resets the patience
    validation_fraction: Fraction = 0.2


class CompactNetConfig(Section):
    """MLP encoder; MLP decoder ending in a linear layer of `n_components` spectra (folds into the forward table)."""

    encoder_widths: tuple[PositiveInt, ...] = (256, 128, 64)
    decoder_widths: tuple[PositiveInt, ...] = (128, 256)
    n_components: PositiveInt = 48


class ConvNetConfig(Section):
    """The paper's 1-D CNN (section IV.1.1), with strides so that the decoder is affordable."""

    filters: tuple[PositiveInt, ...] = (12, 32, 128, 256)
    kernel_size: PositiveInt = 5
    dense: tuple[PositiveInt, ...] = (256, 64, 16)


class AutoencoderConfig(Section):
    """The autoencoder of rest-frame spectra: a compact decoder, or strided convolutions."""

    architecture: Literal["compact", "conv"] = "compact"
    compact: CompactNetConfig = CompactNetConfig()
    conv: ConvNetConfig = ConvNetConfig()
    fit: FitConfig


class FlowConfig(Section):
    """The normalising flow on the latents: coupling layers, or inverse autoregressive ones (`iaf`)."""

    architecture: Literal["coupling", "iaf"] = "coupling"
    n_layers: PositiveInt = 8
    n_knots: PositiveInt = 8
    interval: PositiveFloat = 5.0
    # of the z-scored latents, before the splines (pae.flow.TailWarp)
    tails: Literal["asinh", "linear"] = "asinh"
    width: PositiveInt = 64
    depth: PositiveInt = 2
    # noise on the standardised latents: 160 templates lie on thin sheets, and float32 round trips need them thicker
    jitter: NonNegativeFloat = 0.05
    condition: Literal["none", "redshift"] = "none"  # what the distribution of spectra depends on
    fit: FitConfig


class PaeConfig(Section):
    """The model family. `n_latents` are the Dagster partitions; `n_latent` the one the bundle uses."""

    n_latents: tuple[PositiveInt, ...] = (10,)
    n_latent: PositiveInt = 10
    autoencoder: AutoencoderConfig
    flow: FlowConfig

    rules_of_pairs = (("n_latent", "must be one of", "n_latents"),)


class ModelErrorConfig(Section):
    """The trainings without a part of the templates that measure the model's own error (`inference.folds`)."""

    folds: Annotated[int, Field(ge=0, le=20)] = 0  # of the templates; 0 for a model without a stated error
    n_spectra: PositiveInt | None = None  # of each fold's training; None takes those of training_set
    epochs: PositiveInt | None = None  # of each fold's autoencoder; None takes those of pae.autoencoder
    n_galaxies: PositiveInt = 400  # of each fold that are described
    n_nodes: Annotated[int, Field(ge=2)] = 80  # of the table, even in ln of the rest wavelength


class PriorConfig(Section):
    """Which priors enter the posterior, and how the amplitude is treated (eq. 4-7)."""

    nf_prior: bool = True
    redshift: Literal["uniform", "bpz"] = "bpz"
    z_min: PositiveFloat = 0.003
    z_max: PositiveFloat = 3.0
    amplitude: Literal["profile", "marginal"] = "profile"

    rules_of_pairs = (("z_max", "must exceed", "z_min"),)


class MclmcConfig(Section):
    """The paper's stages (section IV.2.1)."""

    n_chains: Annotated[int, Field(ge=2)] = 4
    n_burnin: PositiveInt = 500
    n_tune: PositiveInt = 600
    n_steps: PositiveInt = 2000
    n_discard: PositiveInt = 1000
    # prior draws searched for starts and jumps; at most n_chains is the paper's way
    init_draws: PositiveInt = 32768
    # steps between jumps (`inference.jumps`) of kept draws; each costs a gradient
    jump_every: PositiveInt = 3
    reinit_delta_log_like: PositiveFloat = 5.0
    reinit_scatter: PositiveFloat = 0.05
    batch_size: PositiveInt = 32  # sources per compiled call and device, padded
    keep_latent_every: PositiveInt = 10

    rules_of_pairs = (("n_discard", "must be below", "n_steps"),)


class ProposalConfig(Section):
    """The amortised proposal that importance sampling draws from (`pae.proposal`)."""

    encoder_widths: tuple[PositiveInt, ...] = (384, 384, 256)
    n_layers: PositiveInt = 6
    width: PositiveInt = 128
    n_knots: PositiveInt = 8
    interval: PositiveFloat = 5.0
    # prior draws with their noiseless fluxes; noise is drawn anew in every batch
    n_bank: PositiveInt = 200000
    snr_min: PositiveFloat = 4.0
    snr_max: PositiveFloat = 250.0
    fit: FitConfig


class ImportanceConfig(Section):
    """Stages of importance sampling (`inference.importance.sampling`)."""

    n_proposal: PositiveInt = 1000  # draws of the amortised proposal, for every source
    n_adapted: PositiveInt = 1000  # draws of each adaptive round, for sources that need it
    n_rounds: NonNegativeInt = 16
    n_components: PositiveInt = 2  # of the mixture fitted to a source's weighted draws
    n_starts: PositiveInt = 16  # draws climbed from, for sources whose first stage found next to nothing
    climb_below_ess: NonNegativeFloat = 15.0
    # Rounds end when a source has so many effective draws: how fine the answer shall be. How many it must have to be
    # trusted at all is `trust.ess_min`.
    ess_target: PositiveFloat = 500.0
    # redshifts at which the best spectrum is searched (`inference.modes.scan`) for sources that are bright or that no
    # draw describes; 0 for no search
    n_scanned: NonNegativeInt = 96
    scan_above_snr: PositiveFloat = (
        100.0  # total signal-to-noise above which a source is bright in this sense
    )
    batch_size: PositiveInt = 4  # sources per compiled call and device, padded
    fallback_batch_size: PositiveInt = 2  # of MCLMC for the handful of sources that are left ...
    fallback_jump_every: PositiveInt = 10  # ... whose draws are seldom worth a jump


class SbiEncoderConfig(Section):
    """What turns photometry into a context vector (`sbi.encoder`)."""

    features: Literal["scale_free", "paper"] = "scale_free"  # paper: (arcsinh flux, uncertainty) alone
    token_width: PositiveInt = 10  # bands
    token_stride: PositiveInt = 5
    width: PositiveInt = 64
    n_layers: PositiveInt = 3
    n_heads: PositiveInt = 4
    mlp_ratio: PositiveInt = 2
    global_widths: tuple[PositiveInt, ...] = (512, 256)  # MLP over all bands that starts CLS; () for none

    rules_of_pairs = (
        ("width", "must be a multiple of", "n_heads"),
        ("token_stride", "must not exceed", "token_width"),
    )


class SbiHeadConfig(Section):
    """The density of ln(1+z) given the context (`sbi.heads`)."""

    kind: Literal["spline", "maf"] = "spline"
    hidden: PositiveInt = 128
    n_components: PositiveInt = 4  # spline: places the spline is centred on
    n_knots: PositiveInt = 12  # spline: bins
    n_steps: PositiveInt = 8  # maf


class SbiBankConfig(Section):
    """Noiseless photometry that SBI trains on (`sbi.bank`), and the noise drawn for it in every epoch (`sbi.noise`)."""

    n_sources: PositiveInt = 300000
    delta_mag: NonNegativeFloat = 0.2  # Gaussian width of the perturbation of i, beside z and E(B-V)
    exchange_seds: bool = True  # a copy takes template, dust law and E(B-V) of another source of its type
    leave_out_release: bool = True  # the mock release's sources, which results are judged on
    brightness: Literal["catalog", "flat", "importance"] = "catalog"
    correct_density: bool = True  # importance: weight the loss so that p(z) is the catalogue's all the same
    n_visits: PositiveInt = 3
    visit_loss_max: Fraction = 0.12  # each source's share of lost exposures is uniform up to this
    error_scatter: NonNegativeFloat = 0.1  # of a band's error, largest; in ln
    depth_scatter: NonNegativeFloat = 0.1  # of a source's depth, in ln
    mask_probability: UpToOne = 0.2  # of a source to lose bands at random ...
    mask_fraction_max: Fraction = 0.8  # ... a share uniform up to this


class SbiFitConfig(Section):
    """Adam with decoupled weight decay, early stopping on the validation loss (`sbi.training`)."""

    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-5
    batch_size: PositiveInt = 512
    epochs: PositiveInt = 30
    schedule: Literal["constant", "cosine"] = "cosine"
    patience: PositiveInt = 10
    threshold: NonNegativeFloat = 0.0
    validation_fraction: Fraction = 0.1


class SbiConfig(Section):
    """Simulation-based inference."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    encoder: SbiEncoderConfig = SbiEncoderConfig()
    head: SbiHeadConfig = SbiHeadConfig()
    bank: SbiBankConfig = SbiBankConfig()
    fit: SbiFitConfig = SbiFitConfig()
    summaries: Literal["grid", "samples"] = "grid"
    n_samples: PositiveInt = 1024
    batch_size: PositiveInt = 1024  # sources per forward pass of inference


class InferenceConfig(Section):
    """Which method makes a source's posterior, and what is kept of it."""

    method: Literal["importance", "mclmc", "pocomc"] = "importance"
    fallback: bool = True  # importance sampling only: MCLMC for the sources it cannot be trusted for
    n_kept: PositiveInt = 500  # equally weighted draws kept of each source, for reweighting and predictions
    # counts the model's own error in the likelihood, where the model states one (section model_error)
    model_error: bool = True
    # marginalises strengths of emission-line groups that differ from what the model has learned
    line_terms: bool = False
    # of a release: the likelihood of each measurement at its own wavelength, or of their averages in the channels
    wavelengths: Literal["native", "channels"] = "native"


class TrustConfig(Section):
    """What a result must satisfy to be trusted: the limits behind every status, flag and caption.

    Attributes:
        khat_max: importance weights with a Pareto k-hat at or above this are not trusted.
        rhat_max: chains with a split R-hat of z at or above this have not converged.
        ess_min: posteriors with fewer effective draws than this are not trusted.
        reduced_chi2_max: the best model is a misfit when its chi^2 per channel degree of freedom is above this ...
        tail_probability_min: ... and noise exceeds that chi^2 with a probability below this.
        misfit_prior_share: of p(z) of a misfit that is the prior, for its redshift may be any.
        bands_min: sources with fewer usable bands than this are flagged.
    """

    khat_max: PositiveFloat = 0.7
    rhat_max: Annotated[float, Field(gt=1.0)] = 1.1
    ess_min: PositiveFloat = 100.0
    reduced_chi2_max: PositiveFloat = 1.5
    tail_probability_min: Fraction = 1e-4
    misfit_prior_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    bands_min: PositiveInt = 20


DEFAULT_TRUST = TrustConfig()  # for tables that are made outside of a run with a preset


class TemplateFitConfig(Section):
    """The grid of the baseline (paper section IV.3)."""

    z_max: PositiveFloat = 3.0
    z_step: PositiveFloat = 0.002
    ebv_max: UpToOne = 1.0
    ebv_step: PositiveFloat = 0.05


class StressTestConfig(Section):
    """The missing-band test (paper section V.3)."""

    fractions: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], ...] = (0.0, 0.25, 0.5, 0.75)
    n_sources: PositiveInt = 200
    min_snr: PositiveFloat = 20.0


class PromotionConfig(Section):
    """The frozen test set, and the rules by which a challenger is promoted on it (`validation.promotion`)."""

    n_sources: PositiveInt = 2000  # known galaxies, of the templates that trainings draw from
    n_unseen: PositiveInt = 1000  # unseen galaxies, of composites (`sed.composites`)
    test_seed: NonNegativeInt = 771_000_001  # `seed` is that of the trainings; composites take the next one
    rules: Path | None = None  # a file of own rules, relative to the preset's; None = promotion_rules.yaml


class ReleaseConfig(Section):
    """The mock release that stands in for a delivery: which sky cells, how many sources."""

    name: Annotated[str, Field(pattern=RELEASE_PATTERN, max_length=LONGEST_NAME)] = "mock-r1"
    healpix_order: Annotated[int, Field(ge=0, le=12)] = 6
    cells: tuple[NonNegativeInt, ...]  # NESTED indices at `healpix_order`: the partitions
    sources_per_cell: PositiveInt
    mag_z_max: float = 22.5
    n_visits: PositiveInt = 3  # exposures of a source in each channel
    data_collection: str = "spherex_qr3"
    pipeline_version: str = "7.0.5"
    flag_policy: Literal["tool", "strict"] = "tool"  # which flagged exposures are masked (release.flags)

    @model_validator(mode="after")
    def _cells_exist(self) -> ReleaseConfig:
        n_pixels = 12 * 4**self.healpix_order
        bad = [cell for cell in self.cells if cell >= n_pixels]
        if bad or not self.cells or len(set(self.cells)) != len(self.cells):
            raise ValueError(f"cells {list(self.cells)} must be distinct indices in [0, {n_pixels - 1}]")
        return self


class ValidationConfig(Section):
    """The cuts in sigma_z/(1+z) of the metric table, and what the models are held to."""

    sigma_cuts: tuple[PositiveFloat, ...] = (0.01, 0.02, 0.03, 0.1, 0.2)
    n_bootstrap: PositiveInt = 200
    median_mse_max: PositiveFloat = 1e-4  # autoencoder, held-out spectra; the paper quotes 1e-4 to 1e-3


class TablesConfig(Section):
    """Sizes of the paper's tables, made on the validation sample (`paper.tables`)."""

    n_sources: PositiveInt = 2000  # for template fitting, SBI and the PAE by importance sampling
    n_chained: NonNegativeInt = 100  # of these, for what Markov chains alone can sample
    priors: tuple[Literal["nf_bpz", "nf_uniform", "free"], ...] = ("nf_bpz", "nf_uniform", "free")
    piece: PositiveInt = 500  # sources inferred between two checkpoints
    n_spectra: PositiveInt = 10000  # held-out spectra behind Figs. 3 and 5
    n_examples: PositiveInt = 16  # sources of the report's browser
    n_profiled: NonNegativeInt = 2  # sources with a profile likelihood
    n_simulated: PositiveInt = 400  # prior draws of the rank tests
    n_bootstrap: PositiveInt = 200
    leave_out: tuple[str, ...] = ()  # templates that the PAE's training does not see; tables tell them apart


class Preset(Section):
    """One run of the platform, whole."""

    name: str
    seed: NonNegativeInt = 20260324
    templates: TemplatesConfig = TemplatesConfig()
    rest_grid: RestGridConfig = RestGridConfig()
    instrument: InstrumentConfig = InstrumentConfig()
    catalog: CatalogConfig
    training_set: TrainingSetConfig
    pae: PaeConfig
    model_error: ModelErrorConfig = ModelErrorConfig()
    proposal: ProposalConfig
    sbi: SbiConfig = SbiConfig()
    prior: PriorConfig = PriorConfig()
    inference: InferenceConfig = InferenceConfig()
    importance: ImportanceConfig = ImportanceConfig()
    mclmc: MclmcConfig = MclmcConfig()
    trust: TrustConfig = TrustConfig()
    template_fit: TemplateFitConfig = TemplateFitConfig()
    stress_test: StressTestConfig = StressTestConfig()
    release: ReleaseConfig
    validation: ValidationConfig = ValidationConfig()
    tables: TablesConfig = TablesConfig()
    promotion: PromotionConfig = PromotionConfig()

    rules_of_pairs = (
        ("prior.z_max", "must not exceed", "catalog.z_max"),
        ("promotion.test_seed", "must differ from", "seed"),  # that of the trainings
    )

    def digest(self, *sections: str) -> str:
        """Ten hex digits over the seed and the named top-level sections (all of them when none is named)."""
        chosen = sections or tuple(type(self).model_fields)
        tree = {key: self.model_dump(mode="json")[key] for key in (*chosen, "seed")}
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:10]


def preset_names() -> list[str]:
    """The presets that ship with the package."""
    folder = resources.files("paeplatform") / "presets"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def load_preset(name: str | Path) -> Preset:
    """Reads a preset by name or by path to a YAML file.

    Raises:
        ConfigError: unknown preset, unreadable YAML, unknown key, or a value outside its range; one line per fault.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise ConfigError(f"preset file {path} does not exist")
        text, origin = path.read_text(), str(path)
    elif str(name) in preset_names():
        text, origin = (
            (resources.files("paeplatform") / "presets" / f"{name}.yaml").read_text(),
            f"preset {name!r}",
        )
    else:
        raise ConfigError(
            f"unknown preset {str(name)!r}: give one of {', '.join(preset_names())} or a path to a .yaml"
        )
    tree = yaml_mapping(text, origin)
    promotion = tree.get("promotion")
    if isinstance(promotion, dict) and isinstance(promotion.get("rules"), str):
        promotion["rules"] = str(path.parent.resolve() / promotion["rules"])
    return validated(Preset, tree, origin)


def yaml_mapping(text: str, origin: str) -> dict[str, Any]:
    """The sections of a YAML text; `origin` says in messages where it comes from.

    Raises:
        ConfigError: it is no YAML, or no mapping.
    """
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{origin}: expected a mapping of sections, got {type(tree).__name__}")
    return tree


def validated(kind: type[S], tree: dict[str, Any], origin: str) -> S:
    """Settings of a kind from the sections of a file.

    Raises:
        ConfigError: an unknown key, a missing one, or a value outside its range; one line with every fault.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        plain = {"extra_forbidden": "unknown key", "missing": "missing"}
        faults = (
            f"{'.'.join(str(part) for part in e['loc']) or kind.__name__.lower()}: "
            + plain.get(e["type"], f"{e['msg']} (got {str(e['input'])[:60]!r})")
            for e in error.errors()
        )
        raise ConfigError(f"{origin}: {'; '.join(faults)}") from error
