"""Group mock: the stand-in for COSMOS2020, its redshift prior and training set."""

from pathlib import Path

import dagster as dg
import polars as pl

from paeplatform.assets.recording.metadata import plot, preview, table_result
from paeplatform.assets.recording.report_figures import bright_redshifts, photometry_figure, prior_figure
from paeplatform.assets.recording.tables import bands_from, library_from, prior_table
from paeplatform.assets.recording.versions import code_version, content_version, file_digest, left_out
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.workspace import Workspace


def mock_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""
    return [
        _mock_catalog(preset),
        _redshift_prior(preset),
        _training_spectra(preset),
        _mock_photometry(preset),
    ]


def _mock_catalog(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="mock",
        kinds={"parquet", "polars"},
        code_version=code_version(1, preset, "catalog", "templates.dust_laws"),
    )
    def mock_catalog(sed_templates: pl.DataFrame) -> dg.MaterializeResult[pl.DataFrame]:
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
                "types": dg.MetadataValue.json(
                    dict(table["galaxy_type"].value_counts().sort("galaxy_type").iter_rows())
                ),
            },
        )

    return mock_catalog


def _redshift_prior(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="mock",
        kinds={"parquet", "scipy"},
        code_version=code_version(1, preset, "catalog.z_max", "release.mag_z_max"),
    )
    def redshift_prior(mock_catalog: pl.LazyFrame) -> dg.MaterializeResult[pl.DataFrame]:
        """p(z) ~ z^alpha exp(-(z/beta)^gamma) fitted to the sources as bright as a release's (eq. 7)."""
        from paeplatform.catalog.redshift_prior import fit_bpz

        with one_line_failures():
            fit = fit_bpz(bright_redshifts(preset, mock_catalog), preset.catalog.z_max)
        table = prior_table(fit)
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table),
            metadata={
                "alpha": fit.alpha,
                "beta": fit.beta,
                "gamma": fit.gamma,
                "sources": fit.n_sources,
                "ks_distance": fit.ks,
                "n_of_z": plot(prior_figure(preset, mock_catalog, table)),
            },
        )

    return redshift_prior


def _training_spectra(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="mock",
        kinds={"parquet", "pyarrow"},
        code_version=code_version(
            1, preset, "training_set", "rest_grid", "catalog.z_max", "catalog.ebv_max", *left_out(preset)
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
            counts = write_training_set(preset, library, mock_catalog, path)
        return dg.MaterializeResult(
            value=path,
            data_version=dg.DataVersion(file_digest(path)),
            metadata={
                **counts,
                "preview": preview(pl.read_parquet(path, n_rows=6, glob=False)),
            },
        )

    return training_spectra


def _mock_photometry(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="mock",
        kinds={"parquet", "polars"},
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
    ) -> dg.MaterializeResult[pl.DataFrame]:
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
                "sources_per_cell": dg.MetadataValue.json(
                    {str(cell): n for cell, n in table["cell"].value_counts().sort("cell").iter_rows()}
                ),
                "median_snr": float(table["snr"].median()),  # type: ignore[arg-type]
                "examples": plot(photometry_figure(bands, table)),
            },
        )

    return mock_photometry
