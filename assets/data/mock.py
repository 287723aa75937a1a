"""Group mock: the stand-in for COSMOS2020, its redshift prior and training set."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl

from paeplatform.assets.recording.groups import asset_group
from paeplatform.assets.recording.metadata import TableResult, counts, plot, preview, table_result
from paeplatform.assets.recording.report_figures import bright_redshifts, photometry_figure, prior_figure
from paeplatform.assets.recording.tables import bands_from, library_from
from paeplatform.assets.recording.versions import code_version, file_digest, left_out
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.workspace import Workspace

mock_asset = partial(dg.asset, group_name="mock", kinds={"parquet", "polars"})


def _mock_catalog(preset: Preset) -> dg.AssetsDefinition:
    @mock_asset(code_version=code_version(1, preset, "catalog", "templates.dust_laws"))
    def mock_catalog(sed_templates: pl.DataFrame) -> TableResult:
        """A COSMOS-like catalogue: type, redshift, dust and magnitudes drawn jointly, one row a source."""
        from paeplatform.catalog.mock import draw_mock_catalog

        with one_line_failures():
            table = draw_mock_catalog(preset, library_from(sed_templates))
        bright = table.filter(pl.col("mag_z") < preset.training_set.mag_z_max)
        return table_result(
            table,
            {
                "training_base": len(bright),
                "fraction_in_training_base": round(len(bright) / len(table), 4),
                "median_z": float(table["z_true"].median()),  # type: ignore[arg-type]
                "types": counts(table, "galaxy_type"),
            },
        )

    return mock_catalog


def _redshift_prior(preset: Preset) -> dg.AssetsDefinition:
    @mock_asset(
        kinds={"parquet", "scipy"},
        code_version=code_version(1, preset, "catalog.z_max", "release.mag_z_max"),
    )
    def redshift_prior(mock_catalog: pl.LazyFrame) -> TableResult:
        """p(z) ~ z^alpha exp(-(z/beta)^gamma) fitted to the sources as bright as a release's (eq. 7)."""
        from paeplatform.catalog.redshift_prior import fit_bpz

        with one_line_failures():
            fit = fit_bpz(bright_redshifts(preset, mock_catalog), preset.catalog.z_max)
        table = pl.DataFrame([asdict(fit)])
        metadata = {
            "alpha": fit.alpha,
            "beta": fit.beta,
            "gamma": fit.gamma,
            "sources": fit.n_sources,
            "ks_distance": fit.ks,
            "n_of_z": plot(prior_figure(preset, mock_catalog, table)),
        }
        return table_result(table, metadata, show_rows=False)

    return redshift_prior


def _training_spectra(preset: Preset) -> dg.AssetsDefinition:
    @mock_asset(
        kinds={"parquet", "pyarrow"},
        code_version=code_version(
            2, preset, "training_set", "rest_grid", "catalog.z_max", "catalog.ebv_max", *left_out(preset)
        ),
    )
    def training_spectra(
        sed_templates: pl.DataFrame, mock_catalog: pl.DataFrame, workspace: Workspace
    ) -> dg.MaterializeResult[Path]:
        """Noiseless rest-frame spectra of perturbed copies of the bright sources, mean 1 on the rest grid."""
        from paeplatform.catalog.training_set import write_training_set

        library = library_from(sed_templates)
        path = workspace.scratch_path("training_spectra.parquet")
        with one_line_failures():
            numbers = write_training_set(preset, library, mock_catalog, path)
        first = pl.read_parquet(path, n_rows=6, glob=False)
        return dg.MaterializeResult(
            value=path,
            data_version=dg.DataVersion(file_digest(path)),
            metadata={**numbers, "preview": preview(first)},
        )

    return training_spectra


def _mock_photometry(preset: Preset) -> dg.AssetsDefinition:
    @mock_asset(
        code_version=code_version(
            2,
            preset,
            "release.cells",
            "release.healpix_order",
            "release.sources_per_cell",
            "release.mag_z_max",
            "instrument.depth",
        ),
    )
    def mock_photometry(
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        mock_catalog: pl.DataFrame,
    ) -> TableResult:
        """What SPHEREx would deliver for the mock release: 102 noisy fluxes [uJy] a source, and the truth."""
        from paeplatform.catalog.photometry import mock_photometry as measure
        from paeplatform.catalog.photometry import select_release

        bands = bands_from(spherex_bands)
        with one_line_failures():
            sources = select_release(preset, mock_catalog)
            table = measure(preset, library_from(sed_templates), bands, sources, preset.seed)
        return table_result(
            table,
            {
                "sources_per_cell": counts(table, "cell"),
                "median_snr": float(table["snr"].median()),  # type: ignore[arg-type]
                "examples": plot(photometry_figure(bands, table)),
            },
        )

    return mock_photometry


mock_assets = asset_group(_mock_catalog, _redshift_prior, _training_spectra, _mock_photometry)
