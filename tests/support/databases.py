"""Databases to test with: SQLite files or, with `pytest --postgresql`, PostgreSQL's."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from sqlalchemy import URL, Connection, NullPool, create_engine

Database = Path | str
"""A SQLite file, or the URL of another database."""

NewDatabase = Callable[..., AbstractContextManager[Database]]
"""Gives a database while it is needed: a copy of another one, or one without tables."""

POSTGRESQL = max(
    Path("/usr/lib/postgresql").glob("*/bin"),
    key=lambda folder: float(folder.parent.name),
    default=None,
)
MISSING = "needs PostgreSQL's programs in /usr/lib/postgresql (Debian's package `postgresql`)"


def url_of(database: Database) -> str:
    """Return what goes into `DATABASE_URL`."""
    return f"sqlite:///{database}" if isinstance(database, Path) else database


@contextmanager
def connected(database: Database) -> Iterator[Connection]:
    """Connect without the app; each statement is a transaction of its own."""
    engine = create_engine(url_of(database), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@contextmanager
def new_file(template: Path | None = None) -> Iterator[Path]:
    """Make a SQLite database: without a template, only its folder."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "laurels.db")
        yield Path(shutil.copy(template, path)) if template else path


class Cluster:
    """A PostgreSQL of the tests' own, reached by a socket in a temporary folder.

    Its collation is not that of bytes, as on most hosts. Only if it is `durable` does a write wait
    for the disk.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self.options = "" if durable else "-c fsync=off -c autovacuum=off"
        self.user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        self.folder = Path(mkdtemp())  # a socket's path must be short
        self.environment = {"PGHOST": str(self.folder), "PGUSER": "postgres"}
        self.numbers = count()
        if self.user:
            shutil.chown(self.folder, self.user)
        collation = ("--encoding=UTF8", "--locale=C", "--locale-provider=icu", "--icu-locale=en")
        self._run("initdb", "-U", "postgres", "--no-sync", "--auth=trust", *collation)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self.folder} -c listen_addresses= {self.options}"
        self._run("pg_ctl", "start", "--wait", "-l", str(self.folder / "log"), "-o", options)

    def stop(self) -> None:
        """Stop it at once."""
        self._run("pg_ctl", "stop", "-m", "immediate")

    def remove(self) -> None:
        """Stop it, and remove all that it wrote."""
        self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        assert POSTGRESQL
        command = [str(POSTGRESQL / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(
            command, user=self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL
        )

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        query = {"host": str(self.folder)}
        return str(URL.create("postgresql+psycopg", "postgres", database=name, query=query))

    @contextmanager
    def new(self, template: str | None = None) -> Iterator[str]:
        """Make a database, and drop it whoever is still connected."""
        name, old = f"test{next(self.numbers)}", (template or "template1").split("?")[0]
        with connected(self.url("postgres")) as maintenance:
            maintenance.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {old.rsplit('/')[-1]}")
        yield self.url(name)
        with connected(self.url("postgres")) as maintenance:
            maintenance.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
