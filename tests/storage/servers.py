"""A PostgreSQL server, an S3 endpoint and a proxy that cuts, each on a free port of this machine only."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"
PASSWORD = "not-to-be-seen"  # nothing may print it


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres: on the path, or where Debian puts them."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in places if (one / "initdb").exists() and (one / "postgres").exists()), None)


class Postgres:
    """A server with one superuser and as many databases as tests ask for."""

    def __init__(self, port: int, programs: Path) -> None:
        self.port, self.programs = port, programs
        self._made = 0

    def address(self, database: str, port: int | None = None) -> str:
        return f"postgresql+psycopg2://pae:{PASSWORD}@{HOST}:{port or self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple]:
        import psycopg2

        with closing(
            psycopg2.connect(host=HOST, port=self.port, user="pae", password=PASSWORD, dbname=database)
        ) as live:
            live.autocommit = True
            with live.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str | None = None) -> str:
        self._made += 1
        name = f"test{self._made}"
        self.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return name

    def kill_connections(self, database: str) -> int:
        """Ends every connection to a database; returns how many there were."""
        return len(
            self.execute(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
            )
        )


@contextmanager
def postgres_server(programs: Path) -> Iterator[Postgres]:
    """A server of its own in a folder of its own, without fsync; as root, which it refuses, under another user."""
    folder = Path(tempfile.mkdtemp(prefix="paeplatform-pg-"))
    user: str | None = None
    if os.geteuid() == 0:
        user = next(name for name in ("postgres", "nobody") if _known(name))
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        folder.chmod(0o700)
    word = folder.parent / f"{folder.name}.pw"
    word.write_text(PASSWORD)
    word.chmod(0o644)
    port = free_port()
    process: subprocess.Popen[bytes] | None = None
    try:
        data = ("-D", str(folder / "data"))
        subprocess.run(
            [programs / "initdb", *data, "-U", "pae", "--auth=scram-sha-256", f"--pwfile={word}", "-N", "--no-locale",
             "-E", "UTF8"],
            check=True, user=user, cwd="/", capture_output=True,
        )  # fmt: skip
        with (folder.parent / f"{folder.name}.log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", *data, "-p", str(port), "-h", HOST, "-k", str(folder), "-F"],
                user=user, cwd="/", stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        server = Postgres(port, programs)
        deadline = time.monotonic() + 60
        while True:
            try:
                server.execute("SELECT 1")
                break
            except Exception:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield server
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # fast: does not wait for connections
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
        for rest in folder.parent.glob(f"{folder.name}.*"):
            rest.unlink()


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


class Proxy:
    """Passes connections on to a port, and harms them as told.

    Attributes:
        cut: so many of the next connections are closed after the client's first bytes, before these are passed on.
        unwell: so many of the next requests of method `harmed` are answered 503 instead of being passed on.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.calm()
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def calm(self) -> None:
        self.cut = self.unwell = self.hurt = 0
        self.harmed = b"PUT "

    def close(self) -> None:
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Cuts every connection there is."""
        for one in list(self._open):
            self._end(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection((HOST, self.target))
        self._open |= {client, server}
        threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()
        self._pump(client, server, True)

    def _pump(self, source: socket.socket, sink: socket.socket, requests: bool) -> None:
        try:
            while data := source.recv(65536):
                if requests and self._harm(data, source):
                    break
                sink.sendall(data)
        except OSError:
            pass
        finally:
            self._end(source)
            self._end(sink)

    def _harm(self, data: bytes, client: socket.socket) -> bool:
        if not data.startswith(self.harmed):
            return False
        with self._lock:
            unwell, cut = self.unwell > 0, self.cut > 0
            if unwell:
                self.unwell -= 1
            elif cut:
                self.cut -= 1
            self.hurt += unwell or cut
        if unwell:
            client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return unwell or cut

    def _end(self, one: socket.socket) -> None:
        self._open.discard(one)
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
