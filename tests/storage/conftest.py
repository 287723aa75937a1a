"""Real servers for the storage modes; tests that need PostgreSQL are skipped where there is none."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from servers import HOST, Postgres, Proxy, postgres_programs, postgres_server

from paeplatform.resources.storage import Storage


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip(
            "no PostgreSQL server here: install Debian's package `postgresql` (initdb and postgres are used)"
        )
    with postgres_server(programs) as server:
        yield server


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(HOST, port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture(scope="session")
def s3_proxy(s3_port: int) -> Iterator[Proxy]:
    """One for all tests: s3fs and polars keep their clients, and with them the port."""
    made = Proxy(s3_port)
    yield made
    made.close()


@pytest.fixture
def proxy(s3_proxy: Proxy) -> Iterator[Proxy]:
    """In front of the S3 endpoint, doing no harm until told to."""
    s3_proxy.calm()
    yield s3_proxy
    s3_proxy.calm()


@pytest.fixture
def s3(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """An empty bucket `test`, reached through the proxy; the environment says where, as the platform's settings do."""
    import boto3

    endpoint = f"http://{HOST}:{proxy.port}"
    storage = Storage.model_validate(
        {
            "mode": "postgres",
            "dagster": {"database": {"env": "TEST_DAGSTER_DB"}},
            "mlflow": {"database": {"env": "TEST_MLFLOW_DB"}, "artifacts": "s3://test/mlflow"},
            "catalogue": {"store": "s3://test/store"},
            "s3": {"endpoint": endpoint},
        }
    )
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        **storage.environment,
    }.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3", endpoint_url=endpoint).Bucket("test")
    bucket.create()
    yield storage
    bucket.objects.all().delete()
    bucket.delete()
    assert os.environ["AWS_ENDPOINT_URL"] == endpoint
