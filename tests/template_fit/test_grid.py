"""The grid's fluxes against the exact integral, and what a configuration may not say."""

import numpy as np
import pytest

from paeplatform.errors import ConfigError
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.filters import FilterCurves
from paeplatform.sed.dust import attenuation
from paeplatform.sed.grid import hires_grid, library_on_grid
from paeplatform.template_fit.grid import TemplateGridConfig, build_template_grid


def test_fluxes_are_the_exact_integrals(grid, library, filters):
    """Off the nodes in E(B-V) too, where the largest error of any band is 5e-5."""
    wave = hires_grid()
    spectra = library_on_grid(library, wave)
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(60):
        z, template, law = rng.integers(len(grid.config.z)), rng.integers(len(library)), rng.integers(3)
        ebv = rng.integers(len(grid.config.ebv))
        dusty = spectra[template] * attenuation(grid.config.dust_laws[law], wave, grid.config.ebv[ebv])
        exact = exact_photometry(wave, dusty, grid.config.z[z], filters)
        model = grid.models(np.array([z]), np.array([template]))[0, law, ebv]
        errors.append(np.max(np.abs(model / exact - 1.0)))
    assert max(errors) < 6e-5 and np.median(errors) < 1e-5
    assert grid.node_error < 6e-5


def test_the_papers_grid_has_15_million_models():
    config = TemplateGridConfig()
    assert len(config.z) == 1501 and len(config.ebv) == 21 and len(config.dust_laws) == 3
    assert config.z[-1] == 3.0 and config.z[1] == pytest.approx(0.002) and config.ebv[-1] == 1.0
    assert 160 * len(config.z) * len(config.ebv) * len(config.dust_laws) == 15_130_080


def test_more_nodes_bring_the_interpolation_down(library, filters, grid):
    config = TemplateGridConfig(z_max=1.0, z_step=1.0, n_ebv_nodes=5)
    assert build_template_grid(library, filters, config, progress=False).node_error < 1e-7 < grid.node_error


def test_laws_of_a_subset_are_those_of_the_whole(library, filters, grid):
    config = TemplateGridConfig(z_max=3.0, z_step=1.5, ebv_step=0.1, dust_laws=("allen", "prevot"))
    other = build_template_grid(library, filters, config, progress=False).models(np.array([1]), np.array([3]))
    whole = grid.models(np.array([50]), np.array([3]))
    assert grid.config.z[50] == config.z[1] and grid.n_models == 101 * 8 * 3 * 11
    np.testing.assert_allclose(other[0, 0], whole[0, 2], rtol=1e-5)
    np.testing.assert_allclose(other[0, 1], whole[0, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z_step": 0.0}, "z_step 0 and z_max 3"),
        ({"z_step": 0.7}, "z_step 0.7 must divide z_max 3"),
        ({"ebv_max": 1.5}, "ebv_max 1.5 must be 0 < ebv_step <= ebv_max <= 1"),
        ({"dust_laws": ("smc",)}, r"dust_laws \['smc'\] must be distinct, of \['prevot'"),
        ({"dust_laws": ("allen", "allen")}, "must be distinct"),
        ({"n_ebv_nodes": 1}, "n_ebv_nodes 1 must be within 2-12"),
    ],
)
def test_a_bad_configuration_says_what_is_wrong(change, message):
    with pytest.raises(ConfigError, match=message):
        TemplateGridConfig(**change)


def test_filters_the_templates_do_not_reach_are_refused(library, filters):
    with pytest.raises(ConfigError, match=r"at z_max 9 the bluest filter sees 0\.07"):
        build_template_grid(library, filters, TemplateGridConfig(z_max=9.0, z_step=1.0), progress=False)


def test_filters_too_wide_for_the_nodes_are_refused(library):
    wide = FilterCurves(np.array([[0.45, 0.7, 1.6]]), np.array([[0.0, 1.0, 0.0]]))
    with pytest.raises(ConfigError, match="n_ebv_nodes 2 leaves an error"):
        build_template_grid(
            library, wide, TemplateGridConfig(z_max=2.0, z_step=1.0, n_ebv_nodes=2), progress=False
        )
