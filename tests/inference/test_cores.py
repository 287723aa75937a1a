import os
from pathlib import Path

import pytest

from paeplatform.inference.batches.cores import usable_cores

THERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("100000 100000", 1),
        ("150000 100000", min(2, THERE)),
        ("10000 100000", 1),
        ("6400000 100000", THERE),
        ("max 100000", THERE),
        ("", THERE),
    ],
)
def test_a_limit_counts_when_it_is_less_than_the_machine(tmp_path: Path, limit: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert usable_cores(tmp_path) == cores


def test_without_a_control_group_the_machine_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == THERE
