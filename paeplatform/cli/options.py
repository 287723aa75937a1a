"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from paeplatform.resources.settings import PlatformSettings

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Folder for all state (var/, mlruns/). Default: $PAEPLATFORM_HOME, else the project's folder.",
        file_okay=False,
        show_default=False,
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Preset name (`paeplatform presets`) or a YAML file. Default: $PAEPLATFORM_PRESET, else demo.",
        show_default=False,
    ),
]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace what stands there, if paeplatform wrote it. Else it is refused."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]


def settings_for(home: Path | None, preset: str | None) -> PlatformSettings:
    """The settings of this command, also set in the environment for the processes it starts.

    Raises:
        ConfigError: unknown or invalid preset, or the home is a file.
    """
    from paeplatform.resources.settings import HOME_VARIABLE, PRESET_VARIABLE, PlatformSettings

    if home is not None:
        os.environ[HOME_VARIABLE] = str(home.expanduser().resolve())
    if preset is not None:
        path = Path(preset)
        os.environ[PRESET_VARIABLE] = str(path.resolve()) if path.suffix in {".yaml", ".yml"} else preset
    return PlatformSettings.from_env()
