"""Random streams: independent by purpose, and the children NumPy itself would spawn."""

from __future__ import annotations

import numpy as np

from paeplatform.catalog.streams import Stream, stream_rng


def test_a_stream_is_the_spawned_child_of_the_seed():
    children = np.random.SeedSequence(5).spawn(len(Stream))
    for stream in Stream:
        expected = np.random.default_rng(children[stream]).random(4)
        np.testing.assert_array_equal(stream_rng(5, stream).random(4), expected)


def test_streams_and_their_sub_streams_differ():
    draws = [
        stream_rng(5, stream, *index).random() for stream in Stream for index in ((), (0,), (1,), (27256,))
    ]
    draws.append(stream_rng(6, Stream.MAGNITUDE).random())
    assert len(set(draws)) == len(draws)
