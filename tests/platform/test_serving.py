"""The API on loopback with real champions: numbers of the batch asset, refusals that name the field, a moved alias."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest
import uvicorn

from paeplatform.assets.promotion.gated import GATED, Gated
from paeplatform.assets.recording.tables import bands_from, photometry_at_centres
from paeplatform.resources.registry import CHAMPION, PAE
from paeplatform.serving.app import create_app
from paeplatform.serving.champion import ServedChampion
from paeplatform.source_columns import array_column
from tests.platform.conftest import CELLS, Platform

pytestmark = pytest.mark.slow  # CI's time: with the shared platform it is near its limit

HOST, N_BANDS, POLL = "127.0.0.1", 102, 0.5
REQUESTS = {"pae": 60, "sbi": 1000}
Z = ("z_mean", "z_median", "z_mode", "z_std", "z_err68_low", "z_err68_high", "z_err95_low", "z_err95_high")


@dataclass
class Client:
    port: int

    def call(self, verb: str, path: str, body: Any = None, raw: bytes | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=300)
        try:
            content = raw if raw is not None else None if body is None else json.dumps(body).encode()
            connection.request(verb, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def ask(self, body: Any) -> tuple[int, Any]:
        return self.call("POST", "/v1/photoz", body)

    def wait(self, done, what: str) -> None:
        deadline = time.monotonic() + 300
        while not done():
            assert time.monotonic() < deadline, what
            time.sleep(0.1)

    def version(self, method: str) -> int | None:
        models = {one["method"]: one for one in self.call("GET", "/v1/models")[1]["models"]}
        return models[method]["version"]


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[Client]:
    champions = [
        ServedChampion(kind, platform.settings, n_bands=N_BANDS, poll_seconds=POLL) for kind in GATED.values()
    ]
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port = taken.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(create_app(champions, N_BANDS), host=HOST, port=port, log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    found = Client(port)
    found.wait(lambda: all(found.call("GET", "/health")[1]["ready"].values()), "models are loaded")
    yield found
    server.should_exit = True
    thread.join(timeout=30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def sources(platform: Platform) -> list[dict]:
    table = pl.concat([platform.table(f"release_photometry/mock-r1/{cell}") for cell in CELLS])
    flux, flux_err, _ = photometry_at_centres(table, bands_from(platform.table("spherex_bands")))
    return [
        {"object_id": identity, "flux": json_numbers(f), "flux_err": json_numbers(e)}
        for identity, f, e in zip(table["object_id"].to_list(), flux, flux_err, strict=True)
    ]


def json_numbers(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


@pytest.mark.parametrize("kind", GATED.values(), ids=[kind.short for kind in GATED.values()])
def test_answers_are_those_of_the_same_model_to_the_same_channels(
    platform: Platform, client: Client, sources: list[dict], kind: Gated
) -> None:
    """SBI's are the numbers of the asset. The asset of the PAE fits measurements, which nobody sends here."""
    short = kind.short
    if kind.name == PAE:
        table = pl.concat([platform.table(f"release_photometry/mock-r1/{cell}") for cell in CELLS])
        centred, _, _ = photometry_at_centres(table, bands_from(platform.table("spherex_bands")))
        batch = platform.of_channels(table.with_columns(array_column(centred).alias("flux")))
    else:
        batch = pl.concat([platform.table(f"{short}_posteriors/mock-r1/{cell}") for cell in CELLS])
    known = {row["object_id"]: row for row in batch.iter_rows(named=True)}
    rng = np.random.default_rng(1)
    asked = [rng.permutation(len(sources))[: rng.integers(1, 4)] for _ in range(REQUESTS[short])]

    def ask(rows: np.ndarray) -> tuple[int, Any]:
        return client.ask({"method": short, "sources": [sources[row] for row in rows]})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, asked))
    champion = platform.registry.by_alias(kind.name)
    for rows, (status, body) in zip(asked, answers, strict=True):
        assert status == 200, body
        assert body["model"] == {"name": kind.name, "version": champion.version, "origin": "champion"}
        assert [one["object_id"] for one in body["sources"]] == [sources[row]["object_id"] for row in rows]
        for one in body["sources"]:
            row = known[one["object_id"]]
            for name in Z:
                assert one[name] == pytest.approx(row[f"{short}_{name}"], rel=1e-5, abs=1e-6), name
            np.testing.assert_allclose(one["z_quantiles"], row[f"{short}_z_quantiles"], rtol=1e-5, atol=1e-6)
            assert one["flags"] == row[kind.flag_column]
            assert one["n_bands"] == row[f"{short}_n_bands"]


def test_an_answer_says_what_made_it(client: Client, sources: list[dict], platform: Platform) -> None:
    status, body = client.ask({"method": "pae", "sources": sources[:1]})
    assert status == 200
    assert body["prior"] == platform.catalog()["prior_id"][0]
    assert len(body["quantile_levels"]) == len(body["sources"][0]["z_quantiles"]) == 51
    assert body["sources"][0]["status"] in {"converged", "unconverged"}


def test_missing_bands_and_absent_ids_are_fine_and_bad_numbers_are_said(
    client: Client, sources: list[dict]
) -> None:
    first = dict(sources[0])
    del first["object_id"]
    first["flux"] = [None, *first["flux"][1:]]
    odd = {"flux": [1.0] * N_BANDS, "flux_err": [-1.0, *[0.5] * (N_BANDS - 1)]}
    empty = {"flux": [1.0] * N_BANDS, "flux_err": [None] * N_BANDS}
    status, body = client.ask({"method": "pae", "sources": [first, odd, empty]})
    assert status == 200, body
    usable = sum(e is not None for e in sources[0]["flux_err"])
    masked, faulty, none = body["sources"]
    assert [one["object_id"] for one in body["sources"]] == [0, 1, 2]
    assert masked["n_bands"] == usable - (sources[0]["flux_err"][0] is not None)
    assert faulty["input_fault"] == "error_not_positive" and "bad_input" in faulty["flag_names"]
    assert none["z_mean"] is None and none["status"] == "failed" and "no_posterior" in none["flag_names"]


def change(**fields: Any) -> dict:
    good = {"object_id": 1, "flux": [1.0] * N_BANDS, "flux_err": [0.5] * N_BANDS}
    return {name: value for name, value in (good | fields).items() if value is not ...}


REFUSED = {
    "unknown method": ({"method": "tf", "sources": [change()]}, "method", "'pae'"),
    "no method": ({"sources": [change()]}, "method", "Field required"),
    "short": ({"method": "pae", "sources": [change(flux=[1.0] * 101)]}, "sources.0.flux", "at least 102"),
    "long": (
        {"method": "pae", "sources": [change(flux_err=[1.0] * 103)]},
        "sources.0.flux_err",
        "at most 102",
    ),
    "no flux_err": ({"method": "pae", "sources": [change(flux_err=...)]}, "sources.0.flux_err", "required"),
    "text": (
        {"method": "pae", "sources": [change(), change(object_id=2, flux=[*[1.0] * 50, "3.1", *[1.0] * 51])]},
        "sources.1.flux.50",
        "valid number",
    ),
    "true": (
        {"method": "pae", "sources": [change(flux=[True] * N_BANDS)]},
        "sources.0.flux.0",
        "valid number",
    ),
    "nested": (
        {"method": "pae", "sources": [change(flux=[[1.0]] * N_BANDS)]},
        "sources.0.flux.0",
        "valid number",
    ),
    "NaN": (
        {"method": "pae", "sources": [change(flux=[float("nan")] * N_BANDS)]},
        "sources.0.flux.0",
        "finite",
    ),
    "id": ({"method": "pae", "sources": [change(object_id=1.5)]}, "sources.0.object_id", "integer"),
    "large id": ({"method": "pae", "sources": [change(object_id=2**63)]}, "sources.0.object_id", "less than"),
    "same id": ({"method": "pae", "sources": [change(), change()]}, "sources", "distinct"),
    "none": ({"method": "pae", "sources": []}, "sources", "at least 1"),
    "too many": (
        {"method": "pae", "sources": [change(object_id=number) for number in range(101)]},
        "sources",
        "at most 100",
    ),
    "unknown key": ({"method": "pae", "sources": [change(fluxes=1)]}, "sources.0.fluxes", "not permitted"),
    "a list": ([1, 2], "body", "valid dictionary"),
}


@pytest.mark.parametrize(("body", "field", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_request_is_refused_with_the_fields_name(
    client: Client, body: Any, field: str, said: str
) -> None:
    status, answer = client.ask(body)
    assert status == 422
    (fault, *_) = answer["detail"]
    assert fault["field"] == field and said in fault["message"], answer


def test_what_is_no_json_or_too_large_is_refused(client: Client) -> None:
    status, answer = client.call("POST", "/v1/photoz", raw=b'{"method": "pae", "sources": [')
    assert status == 422 and answer["detail"][0]["message"].startswith("not valid JSON")
    connection = http.client.HTTPConnection(HOST, client.port, timeout=60)
    connection.putrequest("POST", "/v1/photoz")
    connection.putheader("Content-Length", str(32 * 2**20 + 1))
    connection.endheaders()  # refused before the body is sent
    answer = connection.getresponse()
    assert answer.status == 413 and "bytes at most" in json.loads(answer.read())["detail"]
    connection.close()
    assert client.call("GET", "/v1/photoz")[0] == 405
    assert client.call("GET", "/nowhere")[0] == 404


def test_a_moved_champion_is_taken_over_and_a_missing_one_said(
    platform: Platform, client: Client, sources: list[dict]
) -> None:
    registry = platform.registry
    mlflow_client = registry.client()
    first = registry.by_alias(PAE).version
    made = mlflow_client.get_model_version(PAE, str(first))
    newest = int(mlflow_client.create_model_version(PAE, source=made.source, run_id=made.run_id).version)
    broken = int(
        mlflow_client.create_model_version(PAE, source="file:///nowhere", run_id=made.run_id).version
    )
    body = {"method": "pae", "sources": sources[:1]}
    try:
        before = client.ask(body)[1]
        registry.set_alias(PAE, CHAMPION, newest)
        client.wait(lambda: client.version("pae") == newest, "the new champion answers")
        after = client.ask(body)[1]
        assert after["model"]["version"] == newest and after["sources"] == before["sources"]

        registry.set_alias(PAE, CHAMPION, broken)
        client.wait(lambda: client.call("GET", "/health")[1]["faults"], "the broken one is noticed")
        assert "cannot be loaded" in client.call("GET", "/health")[1]["faults"]["pae"]
        assert client.ask(body)[1]["model"]["version"] == newest, "the last good one goes on"

        registry.drop_alias(PAE, CHAMPION)
        client.wait(lambda: client.version("pae") is None, "the missing champion is noticed")
        status, answer = client.ask(body)
        assert status == 503 and answer["detail"].startswith("pae@champion: no model pae@champion in ")
    finally:
        registry.set_alias(PAE, CHAMPION, first)
        for version in (newest, broken):
            mlflow_client.delete_model_version(PAE, str(version))
    client.wait(lambda: client.version("pae") == first, "the first champion is back")
    assert platform.stale() == []
