"""The real server and the real command line, as processes."""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Self

import click
import requests
from click.testing import Result

from app import create_app
from config import Settings
from database import db
from tests.support.databases import Database, url_of

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def environment(database: Database, **settings: str) -> dict[str, str]:
    """Return a process its environment: the test's settings and nobody else's."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ours = {"DATABASE_URL": url_of(database), "PYTHONWARNINGS": "error"}
    return kept | ours | settings


def flask(database: Database, *arguments: str, **settings: str) -> str:
    """Run `flask ...` on a database; return what it printed."""
    return subprocess.run(
        [BIN / "flask", *arguments],
        cwd=ROOT,
        env=environment(database, **settings),
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def command(database: Database, *arguments: str) -> Result:
    """Run `flask ...` on a database, without a process of its own."""
    with click.Context(click.Command("flask")):  # not a server, which checks the schema
        app = create_app(Settings(database_url=url_of(database)))
    result = app.test_cli_runner().invoke(args=arguments)
    with app.app_context():
        db.engine.dispose()
    return result


def create_bot(database: Database, *arguments: str, name: str = "bot") -> tuple[str, str]:
    """Make an app by the command line; return its credentials."""
    lines = command(database, "apps", "create", name, *arguments).stdout.splitlines()
    printed = dict(line.split(": ", 1) for line in lines if ": " in line)
    return printed["Username"], printed["Password"]


def free_port() -> int:
    """Return a port on which nobody is listening."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Server:
    """gunicorn, on a free port, as the README starts it."""

    program: tuple[str | Path, ...] = (BIN / "gunicorn",)
    arguments: tuple[str, ...] = ()
    health = "/health"
    log: IO[str]

    def __init__(self, database: Database, **settings: str) -> None:
        self.database, self.settings = database, settings
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.log = NamedTemporaryFile("a+")
        self.process = subprocess.Popen(
            [*self.program, *self.arguments],
            cwd=ROOT,
            env=environment(self.database, PORT=str(self.port), **self.settings),
            stderr=self.log,
            start_new_session=True,
        )
        self.wait_until_it_answers()
        return self

    def wait_until_it_answers(self) -> None:
        """Ask again and again, as long as the process runs."""
        while self.process.poll() is None:
            with suppress(requests.ConnectionError):
                assert requests.get(self.url + self.health, timeout=60).status_code == 200
                return
            time.sleep(0.05)
        raise AssertionError(Path(self.log.name).read_text())

    @property
    def workers(self) -> list[int]:
        """The processes that answer: one, or none while it starts."""
        pid = self.process.pid
        return [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def kill(self) -> None:
        """End the server and its worker at once, as a power cut would."""
        os.killpg(self.process.pid, 9)
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self.log.close()


class Demo(Server):
    """The server of `make demo`, whose database is its own."""

    program = (sys.executable, "-m", "examples.demo")
