"""Attenuated, mean-normalised rest-frame spectra in bulk: the inner loop of the training set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paeplatform.errors import InputError
from paeplatform.sed.dust import DUST_LAWS, check_ebv, k_lambda

_MAGNITUDE_TO_EXPONENT = np.float32(-0.4 * np.log(10.0))
_BLOCK = 256  # rows worked on at a time: 0.5 MB of float32 at 500 wavelengths, which stays in the cache


class SecondTemplates(NamedTuple):
    """What mixtures hold beside their first template.

    Attributes:
        index: (n,) integer rows of the templates.
        share: (n,) of the dust-free light, 0 to 1; 0 for a spectrum that is no mixture.
    """

    index: np.ndarray
    share: np.ndarray


def attenuated_spectra(
    template_flux: np.ndarray,
    wave: np.ndarray,
    template_index: np.ndarray,
    dust_law: np.ndarray,
    ebv: np.ndarray,
    second: SecondTemplates | None = None,
) -> np.ndarray:
    """Templates, or mixtures of two, behind dust, each divided by its mean over the grid (paper section III).

    Args:
        template_flux: (n_template, n_wave) f_nu on the rest grid, e.g. from `library_on_grid`.
        wave: (n_wave,) rest wavelength [um].
        template_index: (n,) integer rows of `template_flux`.
        dust_law: (n,) integer index into `DUST_LAWS`.
        ebv: (n,) E(B-V) [mag], 0-1.
        second: the other templates of mixtures; None for no mixtures.

    Returns:
        (n, n_wave) float32, mean 1 along the grid.

    Raises:
        InputError: an index, a share or E(B-V) outside its range, or lengths that do not agree.
    """
    template_index, dust_law, ebv = np.asarray(template_index), np.asarray(dust_law), np.asarray(ebv)
    template_flux = np.asarray(template_flux)
    if template_flux.ndim != 2 or template_flux.shape[1] != np.size(wave):
        raise InputError(f"template_flux is {template_flux.shape}; expected (n_template, {np.size(wave)})")
    if not template_index.shape == dust_law.shape == ebv.shape == (template_index.size,):
        raise InputError(
            f"template_index, dust_law and ebv must be vectors of one length, got {template_index.shape}, "
            f"{dust_law.shape}, {ebv.shape}"
        )
    _check_index("template_index", template_index, len(template_flux))
    _check_index("dust_law", dust_law, len(DUST_LAWS))
    check_ebv(ebv)
    if second is not None:
        second = SecondTemplates(*(np.asarray(part) for part in second))
        _check_second(second, template_index.size, len(template_flux))

    flux = np.ascontiguousarray(template_flux, dtype=np.float32)
    curves = np.stack([k_lambda(law, wave) for law in DUST_LAWS])
    exponent = curves.astype(np.float32) * _MAGNITUDE_TO_EXPONENT
    ebv = ebv.astype(np.float32)[:, None]
    spectra = np.empty((template_index.size, flux.shape[1]), dtype=np.float32)
    for start in range(0, len(spectra), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = spectra[rows]
        # The indices are checked above; "clip" spares the copy that mode "raise" makes.
        np.take(exponent, dust_law[rows], axis=0, out=block, mode="clip")
        block *= ebv[rows]
        np.exp(block, out=block)
        block *= flux[template_index[rows]] if second is None else _mixed(flux, template_index, second, rows)
        block /= block.mean(axis=1, keepdims=True)
    return spectra


def _mixed(flux: np.ndarray, first: np.ndarray, second: SecondTemplates, rows: slice) -> np.ndarray:
    share = second.share[rows].astype(np.float32)[:, None]
    return (1.0 - share) * flux[first[rows]] + share * flux[second.index[rows]]


def _check_second(second: SecondTemplates, n: int, n_template: int) -> None:
    if second.index.shape != (n,) or second.share.shape != (n,):
        raise InputError(
            f"second templates: index {second.index.shape} and share {second.share.shape} must be vectors of "
            f"length {n}"
        )
    _check_index("second template", second.index, n_template)
    bad = np.flatnonzero(~((second.share >= 0.0) & (second.share <= 1.0)))
    if bad.size:
        raise InputError(
            f"share[{bad[0]}] = {second.share[bad[0]]} of a second template is outside the accepted range 0-1"
        )


def _check_index(name: str, index: np.ndarray, size: int) -> None:
    if index.size and not (index.min() >= 0 and index.max() < size):
        at = int(np.flatnonzero((index < 0) | (index >= size))[0])
        raise InputError(f"{name}[{at}] = {int(index[at])} is outside the accepted range 0-{size - 1}")
