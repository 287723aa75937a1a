"""Photometric redshifts of SPHEREx galaxies with a probabilistic autoencoder: the science of the platform.

`paeplatform.estimate` gives the redshifts of a file, and `paeplatform.ask` what can be said and drawn of them.

Knows nothing of Dagster or MLflow; `assets`, `resources` and `sensors` beside this package do. Importing it
costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paeplatform.answers.quick import ask, estimate

__all__ = ["ask", "estimate"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        from paeplatform.answers import quick

        return getattr(quick, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
