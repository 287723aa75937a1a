"""The assets of a group, each made by a factory of its own."""

from collections.abc import Callable

import dagster as dg

from paeplatform.config import Preset


def asset_group(
    *factories: Callable[[Preset], dg.AssetsDefinition],
) -> Callable[[Preset], list[dg.AssetsDefinition]]:
    """The function that gives the assets of these factories for a preset, in this order."""
    return lambda preset: [factory(preset) for factory in factories]
