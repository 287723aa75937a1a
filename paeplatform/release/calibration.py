"""Which releases share a calibration, so that their rows may stand together.

Releases differ in their gains, and fluxes on different gains are never averaged. QR3 came with new gains, and the
archive has put the rows of QR2 on them since.
"""

from __future__ import annotations

from paeplatform.release.schema import COLLECTIONS

ONE_CALIBRATION = (frozenset({"QR2", "QR3"}),)
WHY_TOGETHER = "the archive has put QR2 on QR3's gains"


def collections_beside(collection: str) -> tuple[str, ...]:
    """The data collections whose rows have the calibration of `collection`, itself among them."""
    release = COLLECTIONS.get(collection)
    if release is None:
        return (collection,)
    together = next((group for group in ONE_CALIBRATION if release in group), frozenset({release}))
    return tuple(name for name, of in COLLECTIONS.items() if of in together)


def releases_of(collections: list[str | None]) -> list[str]:
    """The known releases that data collections belong to, each once, in order of their names."""
    return sorted({COLLECTIONS[name] for name in collections if name in COLLECTIONS})
