"""The two real objects of `shared/real`, as their makers wrote them."""

import numpy as np
import polars as pl
import pytest

from paeplatform.intake.sources import holds_measurements, read_sources
from tests.real_sources import FILES, FOLDER, real_measurements


@pytest.mark.parametrize("which", FILES)
def test_real_files_are_read_as_they_are(which):
    path = FOLDER / FILES[which]
    if not path.is_file():
        pytest.skip(f"the real measurements are not in {FOLDER}")
    assert holds_measurements(path)
    got = read_sources([path])
    wanted = real_measurements().rows(np.array([list(FILES).index(which)]))
    assert got.name == (path.stem,)
    for name in ("flux", "flux_err", "wave_um", "width_um"):
        np.testing.assert_allclose(getattr(got.measurements, name), getattr(wanted, name), rtol=1e-6)
    table = pl.read_csv(path, glob=False)
    assert (got.ra[0], got.dec[0]) == (table["ra"][0], table["dec"][0])
    assert got.n_rows == table.height
    assert got.set_aside["reason"].to_list() == {"quasar": [], "brown dwarf": ["error_not_positive"]}[which]


def test_both_together_are_two_sources():
    paths = [FOLDER / name for name in FILES.values()]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"the real measurements are not in {FOLDER}")
    got = read_sources(paths)
    assert len(got) == 2 and got.measurements.count.tolist() == [103, 214]
