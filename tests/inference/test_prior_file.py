"""A prior from a CSV is the tabulated prior through its points; faults name the file."""

import numpy as np
import pytest

from paeplatform.errors import ConfigError
from paeplatform.inference.files.prior_file import read_prior_file
from paeplatform.inference.model.priors import TabulatedPrior


def test_points_make_the_prior(tmp_path):
    path = tmp_path / "prior.csv"
    path.write_text("# n(z)\ndensity, z,remark\n1, 0.1,a\n 3,0.5,b\n0,2,c\n")
    expected = TabulatedPrior(np.array([0.1, 0.5, 2.0]), np.array([1.0, 3.0, 0.0]))
    assert read_prior_file(path).prior_id() == expected.prior_id()
    path.write_text("z,density\n0.1,7\n0.5,7\n")
    named = tmp_path / "prio[r].csv"  # as a pattern, it would mean the other file
    named.write_text("z,density\n0.1,1\n0.5,3\n2,0\n")
    assert read_prior_file(named).prior_id() == expected.prior_id()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "does not exist"),
        ("z,p\n0.1,1\n", "column density is missing"),
        ("z,density\n0.1,1\n0.2,much\n", "column density, row 1.*'much' is no number"),
        ("z,density\n0.1,1\n0.2,\n", "column density, row 1.*None is no number"),
        ("z,density\n0.2,1\n0.1,1\n", "z_max"),
        ("z,density\n0.1,-1\n0.2,1\n", "not negative"),
        ("z,density\n0,1\n0.2,1\n", "z_min"),
        ("", "not a readable CSV"),
    ],
)
def test_faults_name_the_file(tmp_path, text, part):
    path = tmp_path / "prior.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=rf"(?s)prior\.csv.*{part}"):
        read_prior_file(path)
