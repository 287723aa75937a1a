"""Composite galaxies: three templates of a type, each behind its own dust, with other emission lines.

The gate judges models on them beside the templates themselves (docs/decisions/0028). No training makes such spectra: a
training spectrum is one template, or a mixture of two, behind one screen of dust, and its lines are those of its
templates. A composite has three components, a screen for each, and lines that are stronger or weaker by group.

The components are templates that trainings know, though, so a composite is near to what a model knows: it is convex in
the templates but for dust and lines. The figures on composites are a lower bound on the errors on real galaxies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paeplatform.errors import InputError
from paeplatform.sed.dust import DUST_LAWS, attenuation
from paeplatform.sed.library import TemplateLibrary, mean_flux
from paeplatform.sed.lines import LINES

N_COMPONENTS = 3
LEAST_SHARE = 0.15  # of a component; with less, the composite is a mixture of two in all but name
SCREEN_EBV_MAX = 0.3  # mag; the catalogue draws its own E(B-V) on top
LINE_SCATTER = 0.4  # standard deviation of ln(factor): the ratios of real galaxies scatter by some 0.2 dex
LINE_GROUPS = ("hydrogen", "[OII]", "[OIII]", "[NII] and [SII]", "PAH")

_HALF_WINDOW = 0.008  # of the wavelength, 2400 km/s: as wide as the lines of the broadest spectra at R = 130
_PAH_UM = (3.20, 3.40)  # the feature at 3.29 um
_LEAST_DUST_UM = 0.06  # no dust law is defined below; the curves are held there


@dataclass(frozen=True)
class CompositeRecipe:
    """What a composite is made of.

    Attributes:
        templates: rows of the library, one a component.
        shares: of each component in the dust-free light (mean f_nu over 0.1-5 um), from `LEAST_SHARE`; they add to 1.
        dust_laws: of each component's screen, from `DUST_LAWS`.
        ebv: of each component's screen [mag], 0 to `SCREEN_EBV_MAX`.
        line_factors: on the light of each of `LINE_GROUPS` above the continuum.
    """

    templates: tuple[int, ...]
    shares: tuple[float, ...]
    dust_laws: tuple[str, ...]
    ebv: tuple[float, ...]
    line_factors: tuple[float, ...]


def composite_library(library: TemplateLibrary, kinds: np.ndarray, seed: int) -> TemplateLibrary:
    """A library of composites, one for each template, which is its first component.

    Args:
        library: templates whose mean flux is 1, as `load_library` gives them.
        kinds: (template,) integer type of each template, `catalog.mock.classify_templates`.
        seed: decides every recipe; the same seed gives the same numbers.

    Returns:
        As many spectra as templates, with mean flux 1 over 0.1-5 um, each on the nodes of its components and at the
        edges of the windows of lines, where all three are known.

    Raises:
        InputError: `kinds` is not a type for each template.
    """
    recipes = draw_recipes(kinds, seed)
    if len(recipes) != len(library):
        raise InputError(f"kinds: {len(recipes)} types for {len(library)} templates")
    spectra = [composite_spectrum(library, recipe) for recipe in recipes]
    return TemplateLibrary(
        name=tuple("composite/" + _joined(library.name, recipe) for recipe in recipes),
        source=tuple("composite of three templates" for _ in recipes),
        licence=tuple(_joined(library.licence, recipe) for recipe in recipes),
        wave=tuple(wave for wave, _ in spectra),
        flux=tuple(flux for _, flux in spectra),
    )


def draw_recipes(kinds: np.ndarray, seed: int) -> tuple[CompositeRecipe, ...]:
    """Draws a recipe for each template.

    The two partners are of the template's type. Where the type has fewer, others fill up, and where the library has
    fewer than three templates, a template comes twice. Shares are Dirichlet(1, 1, 1), squeezed to at least
    `LEAST_SHARE`; E(B-V) is uniform, the law any; factors on lines are log-normal with median 1.

    Args:
        kinds: (template,) integer types.
        seed: not negative.

    Raises:
        InputError: `kinds` is not a vector of at least one type.
    """
    kinds = np.asarray(kinds)
    if kinds.ndim != 1 or not kinds.size:
        raise InputError(f"kinds must be a vector of at least one type, got shape {kinds.shape}")
    rng, recipes = np.random.default_rng(seed), []
    for first in range(kinds.size):
        partners = _partners(rng, kinds, first)
        shares = LEAST_SHARE + (1.0 - N_COMPONENTS * LEAST_SHARE) * rng.dirichlet(np.ones(N_COMPONENTS))
        laws = rng.integers(0, len(DUST_LAWS), N_COMPONENTS)
        ebv = rng.uniform(0.0, SCREEN_EBV_MAX, N_COMPONENTS)
        factors = np.exp(LINE_SCATTER * rng.standard_normal(len(LINE_GROUPS)))
        recipes.append(
            CompositeRecipe(
                templates=(first, *partners),
                shares=tuple(shares.tolist()),
                dust_laws=tuple(DUST_LAWS[law] for law in laws),
                ebv=tuple(ebv.tolist()),
                line_factors=tuple(factors.tolist()),
            )
        )
    return tuple(recipes)


def composite_spectrum(library: TemplateLibrary, recipe: CompositeRecipe) -> tuple[np.ndarray, np.ndarray]:
    """The spectrum of a recipe.

    Args:
        library: whose templates it names.
        recipe: of `draw_recipes`.

    Returns:
        (n,) strictly increasing wavelengths [um] and (n,) f_nu, not negative, mean 1 over 0.1-5 um; float64.

    Raises:
        InputError: E(B-V) outside 0-1, or an unknown dust law.
    """
    waves = [library.wave[row] for row in recipe.templates]
    low, high = max(wave[0] for wave in waves), min(wave[-1] for wave in waves)
    edges = [edge for start, stop, *_ in _WINDOWS for edge in (start, stop)]
    nodes = np.unique(np.concatenate([*waves, edges]))
    nodes = nodes[(nodes >= low) & (nodes <= high)]
    flux = np.zeros(nodes.size)
    dusty = np.maximum(nodes, _LEAST_DUST_UM)
    for row, share, law, ebv in zip(
        recipe.templates, recipe.shares, recipe.dust_laws, recipe.ebv, strict=True
    ):
        light = np.interp(nodes, library.wave[row], library.flux[row])
        flux += share * light * attenuation(law, dusty, ebv)
    flux = change_lines(nodes, flux, recipe.line_factors)
    return nodes, flux / mean_flux(nodes, flux, 0.1, 5.0)


def change_lines(wave: np.ndarray, flux: np.ndarray, factors: tuple[float, ...]) -> np.ndarray:
    """A spectrum whose emission lines are stronger or weaker.

    In a window about each line of `sed.lines.LINES`, and about the PAH feature at 3.3 um, the light above the straight
    line between the ends of the window is multiplied. Windows that overlap are one; between two of its lines ln(factor)
    goes straight from one to the other, so that the spectrum has no steps. Light below the line, as of absorption, and
    light outside the windows stay.

    Args:
        wave: (n,) strictly increasing [um].
        flux: (n,) f_nu, not negative, any scale.
        factors: of each of `LINE_GROUPS`, positive.

    Returns:
        (n,) f_nu in the units of `flux`, not negative.
    """
    changed, strength = flux.copy(), np.log(factors)
    for start, stop, centres, groups in _WINDOWS:
        if start < wave[0] or stop > wave[-1]:
            continue
        inside = (wave >= start) & (wave <= stop)
        here = wave[inside]
        continuum = np.interp(here, [start, stop], np.interp([start, stop], wave, flux))
        excess = np.maximum(flux[inside] - continuum, 0.0)
        factor = np.exp(np.interp(here, centres, strength[list(groups)]))
        changed[inside] += (factor - 1.0) * excess
    return changed


def _joined(texts: tuple[str, ...], recipe: CompositeRecipe) -> str:
    return " & ".join(dict.fromkeys(texts[row] for row in recipe.templates))


def _partners(rng: np.random.Generator, kinds: np.ndarray, first: int) -> list[int]:
    wanted, everyone = N_COMPONENTS - 1, np.arange(kinds.size)
    alike = rng.permutation(everyone[(kinds == kinds[first]) & (everyone != first)])
    others = rng.permutation(everyone[kinds != kinds[first]])
    chosen = [int(row) for row in (*alike, *others)[:wanted]]
    return chosen + [first] * (wanted - len(chosen))


def _group(name: str) -> int:
    prefix = {"[OII]": "[OII]", "[OIII": "[OIII]", "[NII]": "[NII] and [SII]", "[SII]": "[NII] and [SII]"}
    return LINE_GROUPS.index(prefix.get(name[:5], "hydrogen"))


_Window = tuple[float, float, tuple[float, ...], tuple[int, ...]]


def _windows() -> tuple[_Window, ...]:
    """Disjoint (start [um], stop [um], wavelengths of the lines in it [um], their groups), rising."""
    found: list[_Window] = []
    for line in sorted(LINES, key=lambda line: line.wave_um):
        start, stop = line.wave_um * (1.0 - _HALF_WINDOW), line.wave_um * (1.0 + _HALF_WINDOW)
        centres, groups = (line.wave_um,), (_group(line.name),)
        if found and start <= found[-1][1]:
            before = found.pop()
            start, centres, groups = before[0], before[2] + centres, before[3] + groups
        found.append((start, stop, centres, groups))
    pah = (*_PAH_UM, (sum(_PAH_UM) / 2.0,), (LINE_GROUPS.index("PAH"),))
    return tuple(sorted([*found, pah]))


_WINDOWS = _windows()
