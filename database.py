"""The database: how connections are set up, and how a transaction begins and ends."""

import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import flask_sqlalchemy.session
from flask import Flask, g
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Integer,
    MetaData,
    TypeDecorator,
    event,
    inspect,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase

from config import ROOT

MAX_ID = 2**63 - 1
MAX_PARAMETERS = 10_000
"""How many values one statement names at most; the databases take 32,766 or more."""
PATIENCE = 30
"""For how many seconds a thread waits for its turn, and then for writers of other processes."""

SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",  # readers and a writer at the same time
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={PATIENCE * 1000}",
    "PRAGMA cache_size=-8000",  # KiB: counting 100,000 accounts reads an index of 3 MiB
)
WRITER_LOCK = "SELECT pg_advisory_xact_lock(1)"
"""PostgreSQL's counterpart of BEGIN IMMEDIATE: one writer at a time."""


Item = TypeVar("Item")

_TURNS = {True: Lock(), False: Lock()}
"""The threads of a process take turns at reading, and at writing: that costs less than to compete
for Python's lock at each step, and SQLite's way to wait for the writer before is to ask again,
later and later."""


class BusyError(Exception):
    """The database is used by too many others for too long."""


class UTCDateTime(TypeDecorator[datetime]):
    """A moment: aware in Python, stored as UTC without a zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware datetime into what is stored."""
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn what is stored into an aware datetime."""
        return value and value.replace(tzinfo=UTC)


Identifier = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit id; SQLite numbers rows by itself only in a column called INTEGER."""


class Base(DeclarativeBase):
    """The base of all models."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Session(flask_sqlalchemy.session.Session):
    """A session that works in the present transaction, which it neither begins nor ends."""

    def get_bind(self, *args: Any, **options: Any) -> Engine | Connection:
        """Give the connection of the present transaction."""
        present: Connection = g.connection
        return present


db = SQLAlchemy(
    model_class=Base,
    session_options={"class_": Session, "expire_on_commit": False},
    engine_options={
        "hide_parameters": True,  # errors are logged, secrets are not
        "pool_use_lifo": True,  # the connection used last has its cache filled
    },
)


def init_app(app: Flask) -> None:
    """Connect the app to its database."""
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            event.listen(db.engine, "do_connect", _make_private_file)
            event.listen(db.engine, "connect", _set_up_sqlite)
        event.listen(db.engine, "begin", _begin)


def _make_private_file(*_: object) -> None:
    """Make the database's file, if there is none, one that its owner alone may read."""
    path = file()
    if path is not None:
        with suppress(OSError):  # it is there, or SQLite will say what is wrong
            path.touch(0o600, exist_ok=False)


def _set_up_sqlite(dbapi_connection: sqlite3.Connection, _record: object) -> None:
    dbapi_connection.isolation_level = None  # BEGIN is ours: the driver's own loses updates
    for pragma in SQLITE_PRAGMAS:
        dbapi_connection.execute(pragma)


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    write = options.get("write", False)
    if connection.dialect.name == "sqlite":
        driver_connection: Any = connection.connection.driver_connection
        try:
            if write:
                # FULL waits for the disk, so an answered write survives a power cut.
                level = "FULL" if options.get("durable", True) else "NORMAL"
                driver_connection.execute(f"PRAGMA synchronous={level}")
            driver_connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        except sqlite3.Error as error:
            raise DBAPIError.instance("BEGIN", None, error, sqlite3.Error) from error
    elif write:
        connection.exec_driver_sql(WRITER_LOCK)


@contextmanager
def transaction(*, write: bool, durable: bool = True) -> Iterator[None]:
    """Run the block in one transaction: committed at its end, rolled back by any exception.

    A write waits for its turn before its first statement, so that what it reads is what it changes.
    `connection()` and `db.session` both work in it; the first costs less. A power cut may undo a
    write that is not `durable`, which does not wait for the disk.
    """
    with _turn(write=write), db.engine.connect() as g.connection:
        try:
            if write:  # a read needs no options, and they cost
                g.connection.execution_options(write=True, durable=durable)
            with g.connection.begin():
                yield
                connection()
        finally:
            db.session.remove()
            del g.connection


@contextmanager
def _turn(*, write: bool) -> Iterator[None]:
    """Wait for this thread's turn; raise `BusyError` if it does not come."""
    if not _TURNS[write].acquire(timeout=PATIENCE):
        raise BusyError
    try:
        yield
    finally:
        _TURNS[write].release()


def connection() -> Connection:
    """Give the connection of the present transaction, after sending what the session changed."""
    if db.session.registry.has():
        db.session.flush()
    present: Connection = g.connection
    return present


def current_schema() -> str:
    """Name the last migration that there is: its number, with which its file's name begins."""
    return max(file.name[:4] for file in (ROOT / "migrations/versions").glob("[0-9]*.py"))


@contextmanager
def exit_on_errors() -> Iterator[None]:
    """End the program, with one line, if the database refuses something in the block."""
    try:
        yield
    except DBAPIError as error:
        raise SystemExit(
            f"The database cannot be used: {error.orig}. `flask doctor` says more."
        ) from None


def require_current_schema() -> None:
    """End the program, with one line that says what to do, if the database is not up to date."""
    path = file()
    if path is not None and path.parent.is_dir() and not path.exists():
        current = False  # to look would make it
    else:
        with exit_on_errors(), db.engine.connect() as checked:
            current = has_current_schema(checked)
        db.engine.dispose()  # no connection may cross the fork into a worker
    if not current:
        raise SystemExit("The database is not up to date. Run `flask db upgrade` first.")


def has_current_schema(checked: Connection) -> bool:
    """Say whether all migrations, and no others, were run on a database."""
    if not inspect(checked).has_table("alembic_version"):
        return False
    found: str | None = checked.scalar(text("SELECT version_num FROM alembic_version"))
    return found == current_schema()


def file() -> Path | None:
    """Give the file that the database is, or is to be, in; None if it is not SQLite."""
    url = db.engine.url
    if db.engine.dialect.name != "sqlite" or url.database is None:
        return None
    return Path(unquote(urlsplit(url.database).path) if "uri" in url.query else url.database)


def sqlite_faults(checked: sqlite3.Connection) -> str:
    """Say in a few words what is wrong inside a SQLite file; nothing if it is whole."""
    faults = [" ".join(text.split()) for (text,) in checked.execute("PRAGMA integrity_check(3)")]
    faults += [
        f"row {row} of {table} refers to a row of {parent} that is not there"
        for table, row, parent, _ in checked.execute("PRAGMA foreign_key_check")
    ]
    return "; ".join(fault for fault in faults[:4] if fault != "ok")


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cut items into lists that one statement can name."""
    remaining = iter(items)
    return iter(lambda: list(islice(remaining, MAX_PARAMETERS)), [])


def now() -> datetime:
    """Give the present moment."""
    return datetime.now(UTC)


def fold(text: str) -> str:
    """Make text comparable without regard to case, for all of Unicode (NFKC, case folding)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
