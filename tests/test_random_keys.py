"""Ids and their random numbers: numbers stay those of earlier versions, and negative ids have their own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paeplatform.random_keys import counter_generator, halves_of_ids, seeded_generator, unsigned_ids

IDS = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(IDS, min_size=1, max_size=5))
def test_the_halves_are_the_bits_of_the_id(ids):
    low, high = halves_of_ids(np.array(ids, dtype=np.int64))
    assert low.dtype == high.dtype == np.uint32
    assert [int(h) << 32 | int(part) for h, part in zip(high, low, strict=True)] == [i % 2**64 for i in ids]
    assert unsigned_ids(ids).tolist() == [i % 2**64 for i in ids]


@given(IDS)
def test_generators_are_made_of_seed_id_and_stream(identity):
    unsigned = identity % 2**64
    expected = np.random.default_rng([3, unsigned, 7]).random(4)
    assert np.array_equal(seeded_generator(3, identity, 7).random(4), expected)
    philox = np.random.Philox(key=np.array([3, unsigned], dtype=np.uint64))
    assert np.array_equal(counter_generator(3, identity).random(4), np.random.Generator(philox).random(4))


@pytest.mark.parametrize("make", [seeded_generator, counter_generator])
def test_every_id_has_numbers_of_its_own(make):
    drawn = {make(1, identity).integers(2**63) for identity in (-1, 0, 1, 2**32, -(2**63))}
    assert len(drawn) == 5
