"""The HTTP API: POST /v1/photoz, GET /v1/models, GET /health."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import polars as pl
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paeplatform import __version__
from paeplatform.assets.promotion.gated import Gated
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.reference.shipped import REFERENCE
from paeplatform.resources.registry import CHAMPION
from paeplatform.serving.batching import Busy
from paeplatform.serving.champion import Loaded, ServedChampion, Unavailable
from paeplatform.serving.schema import Z_COLUMNS, PhotozAnswer, PhotozRequest, photoz_request

_log = logging.getLogger(__name__)
MAX_BODY_BYTES = 32 * 2**20  # 1,000 sources of 102 bands with 17 digits are some 5 MB
_LEVELS = [round(float(level), 6) for level in QUANTILE_LEVELS]


def create_app(champions: Sequence[ServedChampion], n_bands: int) -> FastAPI:
    """The application; it starts and ends the champions' threads.

    Args:
        champions: the models served, each with a method of its own.
        n_bands: of the photometry.
    """
    served = {one.kind.short: one for one in champions}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for one in champions:
            one.start()
        yield
        for one in champions:
            await asyncio.to_thread(one.close)

    # /docs would load scripts from elsewhere; /openapi.json has it all
    app = FastAPI(title="paeplatform", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    wanted = photoz_request(n_bands, {method: one.kind.max_sources for method, one in served.items()})

    @app.exception_handler(RequestValidationError)
    async def say_fields(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": faults_of(error.errors())}, status_code=422)

    @app.post("/v1/photoz", response_model=PhotozAnswer)
    async def photoz(body: wanted) -> dict[str, Any]:  # type: ignore[valid-type]
        return await answer(served[body.method], body)

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"models": [describe(one, n_bands) for one in champions]}

    @app.get("/health")
    def health() -> JSONResponse:
        ready = {method: one.loaded is not None for method, one in served.items()}
        faults = {method: one.fault for method, one in served.items() if one.fault}
        notes = {method: one.note for method, one in served.items() if one.note}
        status = "ok" if all(ready.values()) else "degraded"
        tree = {"status": status, "ready": ready, "faults": faults, "notes": notes}
        return JSONResponse(tree, status_code=200 if any(ready.values()) else 503)

    return app


async def answer(one: ServedChampion, body: PhotozRequest) -> dict[str, Any]:
    """Queues a request's sources and lays their answer out.

    Raises:
        HTTPException: 503 without a champion or with too many waiting; 500 when the model fails on a request.
    """
    flux, flux_err = photometry_of(body)
    ids = np.asarray(body.object_ids(), dtype=np.int64)
    try:
        one.available()
        loaded, table = await asyncio.wrap_future(one.batcher.submit(flux, flux_err, ids))
    except Unavailable as error:
        raise HTTPException(503, str(error)) from error
    except Busy as error:
        raise HTTPException(503, str(error), headers={"Retry-After": "1"}) from error
    except Exception as error:
        _log.exception("%s failed on %d sources", one.kind.name, len(ids))
        raise HTTPException(500, f"{one.kind.name} failed: {' '.join(str(error).split())}") from error
    return laid_out(one.kind, loaded, table)


def photometry_of(body: PhotozRequest) -> tuple[np.ndarray, np.ndarray]:
    """(flux, flux_err), float32 as catalogues hold them; a band with a null in either is masked."""
    values = [
        np.array([getattr(source, name) for source in body.sources], dtype=np.float64)
        for name in ("flux", "flux_err")
    ]  # null becomes NaN
    missing = np.isnan(values[0]) | np.isnan(values[1])
    with np.errstate(over="ignore"):  # beyond float32: infinite, which the screening of input says
        flux, flux_err = (array.astype(np.float32) for array in values)
    return np.where(missing, np.float32(0.0), flux), np.where(missing, np.float32(np.inf), flux_err)


def laid_out(kind: Gated, loaded: Loaded, table: pl.DataFrame) -> dict[str, Any]:
    """A table of posteriors as the answer."""
    prefix, flag_column, flag_type = kind.short, kind.flag_column, kind.flag_type()
    n = table.height
    columns = {name: table[f"{prefix}_{name}"].to_list() for name in (*Z_COLUMNS, "z_quantiles", "n_bands")}
    columns["object_id"] = table["object_id"].to_list()
    columns["flags"] = table[flag_column].to_list()
    columns["flag_names"] = [
        [str(flag.name).lower() for flag in flag_type if bits & flag] for bits in columns["flags"]
    ]
    status = f"{prefix}_status"
    columns["status"] = (
        table[status].to_list()
        if status in table.columns
        else ["failed" if z is None else "answered" for z in columns["z_mean"]]
    )
    columns["input_fault"] = table["input_fault"].to_list() if "input_fault" in table.columns else [None] * n
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {
        "method": prefix,
        "model": {"name": loaded.model.name, "version": version_of(loaded), "origin": origin_of(loaded)},
        "prior": loaded.estimation.prior_id,
        "quantile_levels": _LEVELS,
        "sources": rows,
    }


def describe(one: ServedChampion, n_bands: int) -> dict[str, Any]:
    """One line of GET /v1/models."""
    loaded = one.loaded
    return {
        "method": one.kind.short,
        "name": one.kind.name,
        "version": None if loaded is None else version_of(loaded),
        "origin": None if loaded is None else origin_of(loaded),
        "loaded_at": None if loaded is None else loaded.since,
        "prior": None if loaded is None else loaded.estimation.prior_id,
        "promoted_by": None if loaded is None else loaded.model.tags.get("promoted_by"),
        "bands": n_bands,
        "max_sources": one.kind.max_sources,
        "poll_seconds": one.poll_seconds,
        "fault": one.fault,
        "note": one.note,
    }


def version_of(loaded: Loaded) -> int | None:
    """The registered version that answers; None for the model that ships."""
    return None if loaded.is_reference else loaded.model.version


def origin_of(loaded: Loaded) -> str:
    """Whether the champion of the home answers, or the model that ships."""
    return REFERENCE if loaded.is_reference else CHAMPION


def faults_of(errors: Sequence[Any]) -> list[dict[str, str]]:
    """What is wrong with a request, field by field; what was sent is not sent back."""
    found = []
    for error in errors[:20]:
        if error["type"] == "json_invalid":
            found.append({"field": "body", "message": f"not valid JSON at character {error['loc'][-1]}"})
            continue
        place = ".".join(str(part) for part in error["loc"] if part != "body")
        found.append({"field": place or "body", "message": error["msg"].removeprefix("Value error, ")})
    return found


class BodyLimit:
    """Answers 413 before a body that is too large is read to its end."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max = app, max_bytes
        self._detail = f"the body may have {max_bytes} bytes at most"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max:
            refused = JSONResponse({"detail": self._detail}, status_code=413)
            await refused(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max:  # the header said less, or nothing
                raise HTTPException(413, self._detail)
            return message

        await self._app(scope, counted, send)
