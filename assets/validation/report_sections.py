"""The report's sections beyond the release's own metrics: the paper's tables, quality of the release, the browser."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from paeplatform.assets.release.accepted import accepted_cells, release_table
from paeplatform.config import Preset
from paeplatform.paper.table_list import TABLES
from paeplatform.resources.objects import read_table
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from paeplatform.instrument.bands import BandSet
    from paeplatform.report.tables import ReportSection

REPORT_TABLES = (*(table.name for table in TABLES), "table_ranks")
ReleaseQuality = tuple[dict[str, int], list[tuple[str, int]]]


def report_sections(
    preset: Preset,
    tables: Mapping[str, pl.DataFrame],
    scores: pl.LazyFrame,
    examples: pl.DataFrame,
    bands: "BandSet",
    quality: ReleaseQuality,
) -> list["ReportSection"]:
    """Quality of the release, the paper's tables, single sources."""
    from paeplatform.report.browser import browser_section
    from paeplatform.report.tables import paper_section, quality_section

    cfg = preset.tables
    note = (
        f"{cfg.n_sources:,} sources of the frozen catalogue, which no training has seen; the first {cfg.n_chained:,} "
        "for what Markov chains alone can sample. The models are those trained last, not always the champions."
    )
    return [
        quality_section(*quality),
        paper_section(tables, note),
        browser_section(examples, scores, bands.wave_um.tolist()),
    ]


def release_quality(instance: dg.DagsterInstance, workspace: Workspace, release: str) -> ReleaseQuality:
    """(counts of a release's ingestion and of the cells that passed the gate; why rows in them were set aside and how
    many, the most frequent reason first).
    """
    listing = read_table(workspace.table("release_exposures", release))
    accepted = accepted_cells(instance, workspace, release)

    def table(asset: str) -> pl.LazyFrame:
        return release_table(instance, workspace, asset, release)[0]

    sums = table("release_photometry").select(pl.sum("n_used", "n_masked", "n_set_aside")).collect()
    used, masked, set_aside = map(int, sums.row(0))
    refused = table("quality_statistics").filter(~pl.col("accepted")).select(pl.len()).collect().item()
    aside = table("quarantined_sources").group_by("reason").len()
    reasons = aside.sort("len", "reason", descending=[True, False]).collect()
    facts = {
        "cells delivered": listing.height,
        "cells held by the gate": listing.height - len(accepted),
        "exposures delivered": int(listing["n_rows"].sum()),
        "exposures used": used,
        "exposures masked by flags": masked,
        "rows set aside": set_aside,
        "statistics outside their rule": int(refused),
    }
    return facts, list(reasons.iter_rows())


def fiducial_chi2(scores: pl.LazyFrame) -> pl.DataFrame:
    """Reduced chi^2 of the fiducial PAE's sources."""
    from paeplatform.paper.sample_scores import FIDUCIAL, of_methods

    return of_methods(scores, FIDUCIAL).select("chi2_reduced").collect()
