"""The p(z) in force: the user's file, or the preset's."""

import json
from pathlib import Path

import dagster as dg
import polars as pl

from paeplatform.assets.recording.metadata import TableResult, table_result
from paeplatform.assets.recording.provenance import PRIOR_FILE, VERSION_FROM
from paeplatform.assets.recording.versions import code_version, file_digest
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.workspace import Workspace

PRIOR_TAG = "paeplatform/prior-source"  # on a materialisation: digest of the file, or "preset"
PRESET = "preset"


def prior_source(prior_file: Path) -> str:
    """What the prior in force comes from now: a digest of the user's file, "preset" while there is none."""
    return file_digest(prior_file) if prior_file.is_file() else PRESET


def prior_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""

    @dg.asset(
        group_name="inference",
        kinds={"parquet"},
        code_version=code_version(2, preset, "prior"),
        metadata={VERSION_FROM: PRIOR_FILE},
    )
    def inference_prior(redshift_prior: pl.DataFrame, workspace: Workspace) -> TableResult:
        """The p(z) that catalogues stand for: `var/prior/redshift_prior.csv`, or else the preset's.

        Posteriors carry the prior they were sampled with and are moved to this one by weights; a change of it, also
        of the N(z) it is fitted to, therefore infers only those sources again that weights cannot move.
        """
        from paeplatform.inference.files.prior_file import read_prior_file
        from paeplatform.inference.model.priors import prior_from_preset, prior_to_dict

        file = Path(workspace.prior_file)
        source = prior_source(file)
        with one_line_failures():
            prior = (
                prior_from_preset(preset.prior, redshift_prior.row(0, named=True))
                if source == PRESET
                else read_prior_file(file)
            )
        name, as_json = prior.prior_id(), json.dumps(prior_to_dict(prior), sort_keys=True)
        return table_result(
            pl.DataFrame({"prior_id": [name], "prior": [as_json]}),
            {"prior": name, "source": str(file) if source != PRESET else PRESET},
            version=dg.DataVersion(name),
            show_rows=False,
            tags={PRIOR_TAG: source},
        )

    return [inference_prior]
