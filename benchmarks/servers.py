"""The servers that are measured, a client of theirs, and the memory that they take."""

import base64
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

from benchmarks.seed import Auth
from tests.support.databases import Database
from tests.support.server import Server


class Community(Server):
    """The real server with a community of a size, and the credentials of an app."""

    def __init__(self, database: Database, accounts: int, auth: Auth, **settings: str) -> None:
        super().__init__(database, **settings)
        self.accounts, self.auth = accounts, auth
        self.authorization = "Basic " + base64.b64encode(":".join(auth).encode()).decode()


class Bare(Community):
    """The floors, under the same gunicorn settings and on the same database."""

    arguments = ("benchmarks.bare:app",)
    health = "/"


class Client:
    """An app with one connection, which is kept open."""

    def __init__(self, server: Community) -> None:
        self.connection = HTTPConnection("127.0.0.1", server.port)
        self.headers = {"Authorization": server.authorization}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, method: str, path: str, body: str | None = None) -> bytes:
        """Send a request; return the body of its answer."""
        self.connection.request(method, path, body, self.headers)
        response = self.connection.getresponse()
        answer = response.read()
        if response.status >= 400:
            sys.exit(f"{method} {path}: {response.status} {answer[:200].decode()}")
        return answer


def memory(server: Server) -> float:
    """Return the memory of master and workers together (PSS), in MiB."""
    pids = [server.process.pid, *server.workers]
    return sum(_mebibytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss") for pid in pids)


def reset_peak(server: Server) -> None:
    """Let the peak of the worker's memory count from now on."""
    Path(f"/proc/{_worker(server)}/clear_refs").write_text("5")


def peak_memory(server: Server) -> float:
    """Return the peak of the worker's memory (VmHWM), in MiB."""
    return _mebibytes(Path(f"/proc/{_worker(server)}/status"), "VmHWM")


def _worker(server: Server) -> int:
    (pid,) = server.workers
    return pid


def _mebibytes(table: Path, name: str) -> float:
    values = dict(line.split(":", 1) for line in table.read_text().splitlines() if ":" in line)
    return int(values[name].removesuffix("kB")) / 1024
