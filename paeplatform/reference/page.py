"""The model card in words, `docs/reference_model.md`: a function of the card alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paeplatform.reference.card import Figures, Interval, LeftOut, ReferenceCard
from paeplatform.scores.metrics import METRICS, NO_NUMBER

_METHODS = {"pae": "PAE", "sbi": "SBI"}
# Heading of a part of the test set, and what its figures do not show.
_KNOWN = (
    "Galaxies of the templates",
    "So these figures say how well the model knows its library, not how well it knows the sky.",
)
_PARTS: dict[str, tuple[str, str]] = {
    "known": _KNOWN,
    "unseen": (
        "Galaxies that are no template",
        "Composites lie near to the templates, so galaxies that are truly unlike them can come out worse.",
    ),
    # of cards written before the test set had two parts (decision 28)
    "templates": _KNOWN,
    "mixtures": (
        "Galaxies that are no template",
        "Mixtures lie near to the templates, so galaxies that are truly unlike them can come out worse.",
    ),
}
_LEFT_OUT = ("nmad_paper", "mean_bias", "eta_3sigma", "eta_015", "coverage_68", "coverage_95", "crps")
_SHORT = 12  # characters of a commit


def card_page(card: ReferenceCard) -> str:
    """The page, as Markdown."""
    parts = [_head(card), _data(card), _settings(card), _numbers(card), _limits(card), _files(card)]
    return "\n\n".join(parts) + "\n"


def _head(card: ReferenceCard) -> str:
    sbi = (
        "The network of simulation-based inference (SBI) answers beside it."
        if _has_sbi(card)
        else "A network of simulation-based inference (SBI) does not ship yet."
    )
    return f"""# The reference model

This page is the model card of the reference model: the trained model that ships with the package. `make reference`
writes the page from `paeplatform/reference/model/card.json`, which holds the same facts for programs.

## What it is

The reference model is a probabilistic autoencoder (PAE) with its flow and proposal. It turns SPHEREx photometry of a
galaxy into a probability density of its redshift. {sbi}

- Where a home has no champion of its own, `paeplatform infer`, `paeplatform serve` and the Python function `estimate`
  use the reference model, and say so.
- `paeplatform models install-reference` registers it in MLflow. The gate then judges it like any other version
  ([models](models.md#the-model-that-ships)), so a new platform can infer its first release before its first training.
- `make reference` trains it anew with the preset `reference` and shows how the new model compares with this one."""


def _data(card: ReferenceCard) -> str:
    preset = card.preset
    prior, bank = preset["prior"], preset["proposal"]["n_bank"]
    sbi = f"{preset['sbi']['bank']['n_sources']:,} sources" if _has_sbi(card) else NO_NUMBER
    rows = [
        ("galaxy templates", f"{card.templates} (hash `{card.library_hash}`)"),
        ("sources of the mock catalogue", f"{preset['catalog']['n_sources']:,}"),
        ("spectra that autoencoder and flow are trained on", f"{preset['training_set']['n_spectra']:,}"),
        ("simulated photometry that the proposal is trained on", f"{bank:,} sources"),
        ("simulated photometry that SBI is trained on", sbi),
        ("bands", f"the 102 channels of SPHEREx (hash `{card.band_hash}`)"),
        ("redshifts", f"{prior['z_min']:g} to {prior['z_max']:g}"),
    ]
    return f"""## Data

All data are simulated. No survey's measurement and no spectroscopic redshift was used.

{_table(("what", "value"), rows)}"""


def _settings(card: ReferenceCard) -> str:
    preset, minutes = card.preset, {part: value / 60.0 for part, value in card.training_seconds.items()}
    libraries = ", ".join(f"{name} {version}" for name, version in card.library_versions.items())
    rows = [
        ("preset", f"`{preset['name']}`, digest `{card.preset_digest}`"),
        ("latent size", str(preset["pae"]["n_latent"])),
        ("code that trained it", f"commit `{_commit(card.git_commit)}`"),
        ("code that measured it", f"commit `{_commit(card.evaluated_at)}`"),
        ("made", card.made_at),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in card.seeds.items())),
        ("training", ", ".join(f"{part} {value:.0f} min" for part, value in minutes.items()) or NO_NUMBER),
        ("libraries", libraries or NO_NUMBER),
    ]
    text = f"""## Settings

The card holds every setting. `paeplatform preset show reference` prints those of the preset.

{_table(("what", "value"), rows)}"""
    if not card.not_as_preset:
        return text
    differing = [(f"`{name}`", value) for name, value in card.not_as_preset.items()]
    return f"""{text}

The model was not trained with the preset `reference` itself. These settings differ:

{_table(("setting", "value"), differing)}"""


def _numbers(card: ReferenceCard) -> str:
    parts = [
        f"""## Numbers

The numbers are those that the gate looks at ([models](models.md#the-gate)), each with the ends of its 95 % interval
from resampled sources. Shares are in per cent. They were measured on {card.hardware}."""
    ]
    parts += [_of_part(*_PARTS.get(name, (name, "")), figures) for name, figures in card.figures.items()]
    if card.left_out is not None:
        parts.append(_of_left_out(card.left_out))
    return "\n\n".join(parts)


def _of_part(heading: str, caution: str, figures: Figures) -> str:
    methods = [name for name in _METHODS if name in figures.methods]
    names = [name for name in METRICS if any(name in figures.methods[method] for method in methods)]
    rows = [
        (
            METRICS[name].title,
            METRICS[name].definition,
            *(_interval(name, figures.methods[method].get(name)) for method in methods),
        )
        for name in names
    ]
    what = figures.what[:1].upper() + figures.what[1:]
    return f"""### {heading}

{what}. There are {figures.sources:,} of them. {caution}

{_table(("metric", "definition", *(_METHODS[method] for method in methods)), rows)}"""


def _of_left_out(left_out: LeftOut) -> str:
    rows = [
        (
            group,
            f"{values['n']:,.0f}",
            *(
                f"{METRICS[name].text(values.get(name))} ± {METRICS[name].text(values.get(f'{name}_err'))}"
                for name in _LEFT_OUT
            ),
        )
        for group, values in left_out.rows.items()
    ]
    heads = ("galaxies", "sources", *(METRICS[name].title for name in _LEFT_OUT))
    return f"""### Galaxies whose template was left out

The reference model knows every template, so it cannot be measured on a template that it does not know. The next
figures are of {left_out.what}. They are from `{left_out.source}`.

{_table(heads, rows)}"""


def _limits(card: ReferenceCard) -> str:
    lines = "\n".join(f"- {sentence}" for sentence in card.must_not)
    return f"""## What it must not be used for

{lines}

All figures above are for simulated galaxies with simulated noise. Real measurements have errors that the simulation
does not know, so take the figures as the best case. [Inference](inference.md) explains the status and the flags that
come with each answer."""


def _files(card: ReferenceCard) -> str:
    listed = "\n".join(f"- `{name}`: sha256 `{digest}`" for name, digest in card.files.items())
    return f"""## Files

The folder `paeplatform/reference/model` holds arrays and JSON, and nothing that is run when it is read. The loader
checks the sum of each file. The records of bundle and network hold the sums of their weights; the card holds these:

{listed}"""


def _has_sbi(card: ReferenceCard) -> bool:
    return any(name.startswith("sbi/") for name in card.files)


def _interval(name: str, found: Interval | None) -> str:
    if found is None:
        return NO_NUMBER
    text = METRICS[name].text
    return f"{text(found.value)} ({text(found.low)} to {text(found.high)})"


def _commit(text: str) -> str:
    commit, _, dirty = text.partition("-")
    return commit[:_SHORT] + (f"-{dirty}" if dirty else "")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
