"""Requests that share a call: each gets its own rows, equal ids never meet, one bad request spoils no other."""

import threading
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from paeplatform.serving.batching import Batcher, Busy


class Model:
    """Answers the sum of a source's fluxes, remembers its calls, and can be held up."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(
        self, flux: np.ndarray, flux_err: np.ndarray, object_id: np.ndarray
    ) -> tuple[str, pl.DataFrame]:
        self.entered.set()
        assert self.gate.wait(30)
        self.calls.append(object_id.tolist())
        if (flux < 0).any():
            raise ValueError("negative")
        return "v1", pl.DataFrame({"object_id": object_id, "sum": flux.sum(axis=1)})


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batcher(model: Model) -> Iterator[Batcher[str]]:
    made = Batcher(model, max_sources=8, max_waiting=20)
    yield made
    model.gate.set()
    made.close()


def ask(batcher: Batcher[str], *ids: int, flux: float = 1.0):
    rows = np.full((len(ids), 3), flux) * np.array(ids)[:, None]
    return batcher.submit(rows, np.ones_like(rows), np.array(ids))


def hold(batcher: Batcher[str], model: Model):
    """Occupies the thread, so that what follows has to wait."""
    model.entered.clear()
    model.gate.clear()
    first = ask(batcher, 1000)
    assert model.entered.wait(30)
    return first


def test_waiting_requests_share_a_call_and_get_their_own_rows(batcher: Batcher[str], model: Model) -> None:
    first = hold(batcher, model)
    later = [ask(batcher, 1, 2), ask(batcher, 3), ask(batcher, 4, 5, 6)]
    model.gate.set()
    assert first.result(30)[0] == "v1"
    tables = [one.result(30)[1] for one in later]
    assert [table["object_id"].to_list() for table in tables] == [[1, 2], [3], [4, 5, 6]]
    assert [table["sum"].to_list() for table in tables] == [[3.0, 6.0], [9.0], [12.0, 15.0, 18.0]]
    assert model.calls == [[1000], [1, 2, 3, 4, 5, 6]]


def test_equal_ids_and_full_calls_wait_for_the_next(batcher: Batcher[str], model: Model) -> None:
    first = hold(batcher, model)
    later = [ask(batcher, 1, 2), ask(batcher, 2), ask(batcher, 3, 4, 5, 6, 7, 8, 9, 10), ask(batcher, 11)]
    model.gate.set()
    for one in (first, *later):
        one.result(30)
    assert model.calls == [[1000], [1, 2], [2], [3, 4, 5, 6, 7, 8, 9, 10], [11]]


def test_one_bad_request_spoils_no_other(batcher: Batcher[str], model: Model) -> None:
    hold(batcher, model)
    good, bad, other = ask(batcher, 1), ask(batcher, 2, flux=-1.0), ask(batcher, 3)
    model.gate.set()
    assert good.result(30)[1]["sum"].to_list() == [3.0]
    assert other.result(30)[1]["sum"].to_list() == [9.0]
    with pytest.raises(ValueError, match="negative"):
        bad.result(30)


def test_too_many_waiting_sources_are_refused_and_room_comes_back(
    batcher: Batcher[str], model: Model
) -> None:
    first = hold(batcher, model)
    waiting = [ask(batcher, *range(8 * k, 8 * k + 8)) for k in range(2)]
    with pytest.raises(Busy, match="17 sources are waiting"):
        ask(batcher, *range(100, 108))
    model.gate.set()
    for one in (first, *waiting):
        one.result(30)
    assert ask(batcher, *range(100, 108)).result(30)[1].height == 8


def test_closing_answers_what_is_queued(model: Model) -> None:
    batcher = Batcher(model, max_sources=8, max_waiting=20)
    first = hold(batcher, model)
    later = ask(batcher, 1)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    model.gate.set()
    closing.join(30)
    assert first.done() and later.result(0)[1].height == 1
