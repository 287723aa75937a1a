"""A bar in galaxies for work that goes in batches of many steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tqdm.auto import tqdm


@dataclass(frozen=True)
class Progress:
    """How a caller wants to hear of progress.

    Attributes:
        show: draw a bar with galaxies per hour.
        on_progress: called with the galaxies' worth of work done since the last call.
    """

    show: bool = True
    on_progress: Callable[[float], None] | None = None

    def bar(self, n_source: int, n_steps: int, name: str) -> GalaxyBar:
        """A bar for `n_source` galaxies of `n_steps` steps each, which begins with `name`."""
        return GalaxyBar(n_source, n_steps, self.show, self.on_progress, name)

    def only_bar(self) -> Progress:
        """The bar alone: for work that the caller does not count."""
        return Progress(self.show)


SHOWN, SILENT = Progress(), Progress(show=False)


class GalaxyBar:
    """Moves with the steps inside a batch and shows galaxies per hour.

    Args:
        n_source: galaxies in all.
        n_steps: steps each of them needs.
        show: whether to draw the bar.
        on_progress: called with the galaxies' worth of work done since the last call.
        name: shown before the bar.
    """

    def __init__(
        self,
        n_source: int,
        n_steps: int,
        show: bool,
        on_progress: Callable[[float], None] | None,
        name: str,
    ):
        self._bar = tqdm(
            total=n_source,
            disable=not show,
            desc=name,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} galaxies [{elapsed}<{remaining}{postfix}]",
        )
        self._n_steps = n_steps
        self._on_progress = on_progress
        self._in_batch, self._done = 0, 0.0

    def __enter__(self) -> GalaxyBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begin(self, n_in_batch: int) -> None:
        """A batch of so many galaxies (padding not counted) starts."""
        self._in_batch = n_in_batch

    def step(self, n_steps: int) -> None:
        """The batch has done so many steps more."""
        galaxies = self._in_batch * n_steps / self._n_steps
        self._done += galaxies
        # thousands of rounded fractions may add up to a hair more than the whole, which tqdm warns about
        self._bar.update(min(galaxies, max(self._bar.total - self._bar.n, 0.0)))
        elapsed = self._bar.format_dict["elapsed"]
        if elapsed > 0.0:
            self._bar.set_postfix_str(f"{3600.0 * self._done / elapsed:,.0f} galaxies/h", refresh=False)
        if self._on_progress is not None:
            self._on_progress(galaxies)
