"""Learning the model's error from galaxies that are left out: the folds, what trainings see, and what they miss."""

import numpy as np
import pytest

from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.training_set import augment_sources, read_spectra, write_training_set
from paeplatform.config import load_preset
from paeplatform.errors import ConfigError
from paeplatform.inference.folds import (
    fold_autoencoder,
    fold_misses,
    fold_settings,
    known_to,
    learnt_errors,
    template_folds,
)
from paeplatform.instrument.bands import load_bands
from paeplatform.pae.training import train_autoencoder
from paeplatform.sed.library import load_library

SECTIONS = {
    "catalog": {"n_sources": 6000},
    "training_set": {"n_spectra": 4000},
    "model_error": {"folds": 2, "epochs": 3, "n_galaxies": 24, "n_nodes": 20},
}


@pytest.fixture(scope="module")
def preset():
    demo = load_preset("demo")
    changed = {name: getattr(demo, name).model_copy(update=values) for name, values in SECTIONS.items()}
    return demo.model_copy(update=changed)


@pytest.fixture(scope="module")
def library():
    return load_library()


@pytest.fixture(scope="module")
def catalog(preset, library):
    return draw_mock_catalog(preset, library)


def test_folds_are_the_observed_galaxies_each_once(library):
    folds = template_folds(library, 5, 1)
    assert [fold.number for fold in folds] == [1, 2, 3, 4, 5]
    names = [name for fold in folds for name in fold.left_out]
    assert sorted(names) == sorted(name for name in library.name if name.startswith("brown/"))
    sizes = [len(fold.left_out) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert template_folds(library, 5, 1) == folds != template_folds(library, 5, 2)


def test_a_library_without_observed_galaxies_is_dealt_whole(library):
    models = library.without([name for name in library.name if name.startswith("brown/")])
    folds = template_folds(models, 3, 0)
    assert sorted(name for fold in folds for name in fold.left_out) == sorted(models.name)
    few = library.without(library.name[3:])
    with pytest.raises(
        ConfigError, match=r"model_error\.folds 2: the library has 3 templates .* 4 are needed"
    ):
        template_folds(few, 2, 0)
    with pytest.raises(ConfigError, match=r"model_error\.folds 1 must be at least 2"):
        template_folds(library, 1, 0)


def test_a_training_without_a_fold_sees_none_of_it_nor_what_the_preset_leaves_out(preset, library, catalog):
    fold = template_folds(library, 2, preset.seed)[0]
    more = next(name for name in library.name if name not in fold.left_out)
    tables = preset.tables.model_copy(update={"leave_out": (more,)})
    settings = fold_settings(preset.model_copy(update={"tables": tables}), fold)
    copies = augment_sources(settings, known_to(catalog, fold))
    used = {library.name[index] for index in np.unique(copies.template_index)}
    assert used and not used & {more, *fold.left_out}
    assert settings.pae.autoencoder.fit.epochs == 3
    assert settings.training_set.n_spectra == 4000
    assert settings.pae.flow == preset.pae.flow
    twice = preset.tables.model_copy(update={"leave_out": (more, fold.left_out[0])})
    assert fold_settings(preset.model_copy(update={"tables": twice}), fold) == settings


def test_left_out_galaxies_are_missed_by_more_than_those_that_the_training_has_seen(preset, library, catalog):
    # a shorter training misses all galaxies alike
    preset = preset.model_copy(update={"model_error": preset.model_error.model_copy(update={"epochs": 80})})
    bands, fold = load_bands(), template_folds(library, 2, preset.seed)[0]
    unseen = fold_autoencoder(preset, library, catalog, fold)
    found = fold_misses(unseen, preset, library, bands, catalog, fold)
    assert found.relative.shape == (24, len(bands)) and found.n_free == preset.pae.n_latent + 1
    rest = np.exp(found.log_rest)
    assert rest.min() > 0.75 / 4.1 and rest.max() < 5.1
    # The same galaxies, described by a training of the same size that has seen them.
    other = template_folds(library, 2, preset.seed)[1]
    seen = fold_autoencoder(preset, library, catalog, other)
    known = fold_misses(seen, preset, library, bands, catalog, fold)
    np.testing.assert_array_equal(known.log_rest, found.log_rest)

    def size(misses):
        return np.median(np.sqrt(np.nanmean(misses.relative**2, axis=1)))

    assert size(found) > 1.3 * size(known)
    errors = learnt_errors(preset, [found])
    assert errors.rest_wave_um.shape == errors.relative.shape == (20,)
    assert (errors.relative > 0.0).all() and np.median(errors.relative) < 0.2
    again = fold_misses(unseen, preset, library, bands, catalog, fold)
    np.testing.assert_array_equal(again.relative, found.relative)


def test_the_training_in_memory_is_that_of_the_training_set(preset, library, catalog, tmp_path):
    small = preset.model_copy(
        update={
            "training_set": preset.training_set.model_copy(update={"n_spectra": 1500, "mixed_share": 0.5})
        }
    )
    fold = template_folds(library, 2, preset.seed)[1]
    settings = fold_settings(small, fold)
    write_training_set(settings, library, known_to(catalog, fold), tmp_path / "t.parquet", progress=False)
    spectra = read_spectra(tmp_path / "t.parquet")
    expected, _ = train_autoencoder(settings.pae, spectra, settings.pae.n_latent, seed=settings.seed)
    got = fold_autoencoder(small, library, catalog, fold)
    np.testing.assert_array_equal(np.asarray(got.head), np.asarray(expected.head))


def test_a_fold_without_bright_galaxies_is_said(preset, library, catalog):
    quick = preset.model_copy(update={"model_error": preset.model_error.model_copy(update={"epochs": 1})})
    fold = template_folds(library, 2, preset.seed)[0]
    others = known_to(catalog, fold)
    autoencoder = fold_autoencoder(quick, library, others, fold)
    with pytest.raises(ConfigError, match=r"no source brighter than z = 23 has a template of fold 1"):
        fold_misses(autoencoder, preset, library, load_bands(), others, fold)
