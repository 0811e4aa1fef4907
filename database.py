"""The database: the engine, how a transaction begins and ends, and statements compiled once."""

import errno
import fcntl
import os
import sqlite3
import weakref
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit

import flask_sqlalchemy.session
from flask import Flask, current_app, g
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, Dialect, Engine, Executable, MetaData, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase

PATIENCE = 30.0
"""How many seconds a transaction waits for the writers before it."""

SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",  # readers and a writer at the same time
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-4000",  # KiB: counting 100,000 accounts reads an index of 3 MiB
    "PRAGMA journal_size_limit=8388608",  # bytes: a long read makes the log grow, but not for good
)

_WRITERS = Lock()
"""The writers of a process take turns here: SQLite's own way of waiting is to ask again, less and
less often."""


class BusyError(Exception):
    """Others have been writing to the database for too long."""


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


class TransactionSession(flask_sqlalchemy.session.Session):
    """A session that works in the current transaction, which it neither begins nor ends."""

    def get_bind(self, *args: Any, **options: Any) -> Engine | Connection:
        """Return the connection of the current transaction."""
        return connection()


db = SQLAlchemy(
    model_class=Base,
    session_options={"class_": TransactionSession, "expire_on_commit": False},
    engine_options={
        "hide_parameters": True,  # errors are logged, secrets are not
        "pool_use_lifo": True,  # the connection used last has a warm cache
        "max_overflow": -1,  # as many connections as the server has threads
    },
)


def init_app(app: Flask) -> None:
    """Connect the app to its database."""
    if not app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite"):  # its server may restart
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_pre_ping": True}
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            _share_folder(app)
            event.listen(db.engine, "do_connect", _make_private_file)
            event.listen(db.engine, "connect", _set_up_sqlite)
            event.listen(db.engine, "begin", _begin_on_sqlite)
        else:
            event.listen(db.engine, "connect", _set_up_postgresql)
            event.listen(db.engine, "begin", _begin_on_postgresql)
            weakref.finalize(app, db.engine.dispose)  # psycopg warns about open connections


def database_file() -> Path | None:
    """Return the file that holds, or will hold, the database; None if it is not SQLite."""
    url = db.engine.url
    if db.engine.dialect.name != "sqlite" or url.database is None:
        return None
    return Path(unquote(urlsplit(url.database).path) if "uri" in url.query else url.database)


def _share_folder(app: Flask) -> None:
    """Keep others from replacing the database while the app lives, forks included.

    SQLite's own locks are not enough: a server has none while it has no connection. The folder is
    locked, since a lock file would have an owner, and not always the server's user.
    """
    path = database_file()
    if path is not None:
        with suppress(OSError):  # without a folder, or locks, `flask restore` refuses
            folder = os.open(path.resolve().parent, os.O_RDONLY)
            weakref.finalize(app, os.close, folder)
            app.extensions["database_folder"] = folder
            fcntl.flock(folder, fcntl.LOCK_SH)


def claim_folder() -> None:
    """Keep all others from using a database in the app's folder until this process ends.

    Raises OSError: `BlockingIOError` if somebody is using one.
    """
    folder: int | None = current_app.extensions.get("database_folder")
    if folder is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)


def close_database() -> None:
    """Close all connections, the last of which moves SQLite's write-ahead log into the database."""
    if db.engine.dialect.name == "sqlite":
        with suppress(DBAPIError), db.engine.connect():
            pass
    db.engine.dispose()


def _make_private_file(*_: object) -> None:
    """Create the database file, if there is none, so that only its owner may read it."""
    path = database_file()
    if path is not None:
        with suppress(OSError):  # it exists, or SQLite will say what is wrong
            path.touch(0o600, exist_ok=False)


def _set_up_sqlite(dbapi_connection: sqlite3.Connection, _record: object) -> None:
    dbapi_connection.isolation_level = None  # BEGIN is ours: the driver's own loses updates
    for pragma in SQLITE_PRAGMAS:
        dbapi_connection.execute(pragma)


def _begin_on_sqlite(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    options = connection.get_execution_options()
    try:
        if not options.get("write"):
            driver.execute("BEGIN")
            return
        # FULL waits for the disk, so an answered write survives a power cut.
        level = "FULL" if options.get("durable", True) else "NORMAL"
        wanted = (level, round(options.get("patience", PATIENCE) * 1000))
        if connection.info.get("pragmas") != wanted:
            driver.execute(f"PRAGMA synchronous={wanted[0]}")
            driver.execute(f"PRAGMA busy_timeout={wanted[1]}")
            connection.info["pragmas"] = wanted
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        raise DBAPIError.instance("BEGIN", None, error, sqlite3.Error) from error


def _set_up_postgresql(dbapi_connection: Any, _record: object) -> None:
    dbapi_connection.autocommit = True  # BEGIN is ours: the driver's own is one more round trip


def _begin_on_postgresql(connection: Connection) -> None:
    """Show a read one snapshot, and admit one writer at a time, as BEGIN IMMEDIATE does."""
    options = connection.get_execution_options()
    if not options.get("write"):
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return
    patience = options.get("patience", PATIENCE) * 1000
    statements = ["BEGIN", f"SET LOCAL lock_timeout = {patience:.0f}"]
    if not options.get("durable", True):
        statements.append("SET LOCAL synchronous_commit = off")
    statements.append("SELECT pg_advisory_xact_lock(1)")
    connection.exec_driver_sql("; ".join(statements))


@contextmanager
def transaction(
    *, write: bool, durable: bool = True, patience: float | None = None
) -> Iterator[None]:
    """Run the block in one transaction: committed at its end, rolled back by any exception.

    A write waits for its turn before its first statement, so that what it reads is what it changes;
    it raises `BusyError`, or `DBAPIError`, if its turn does not come within `patience` seconds. A
    power cut, or a crash of PostgreSQL, may undo a write that is not `durable`, which does not wait
    for the disk.
    """
    if not write:
        with _transaction({}):
            yield
        return
    patience = PATIENCE if patience is None else patience
    if not _WRITERS.acquire(timeout=patience):
        raise BusyError("others are writing to the database")
    try:
        with _transaction({"write": True, "durable": durable, "patience": patience}):
            yield
    finally:
        _WRITERS.release()


@contextmanager
def _transaction(options: dict[str, Any]) -> Iterator[None]:
    with db.engine.connect() as current:
        if options:
            current.execution_options(**options)
        g.connection = current
        try:
            with current.begin():
                yield
                if db.session.registry.has():
                    db.session.flush()
        finally:
            db.session.remove()
            del g.connection


def connection() -> Connection:
    """Return the connection of the current transaction."""
    current: Connection = g.connection
    return current


def first_line(error: BaseException | None) -> str:
    """Return the first line of a driver's message: the others repeat it, or show SQL."""
    return str(error).strip().partition("\n")[0].rstrip(".")


class Statement:
    """A SQLAlchemy statement that is compiled once and then passed straight to the driver.

    That costs a tenth of executing it by SQLAlchemy. Values are passed by the names of the bound
    parameters; rows come back as named tuples. A statement that reads needs no transaction: outside
    one, it is one of its own.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement: Any = statement
        self._compiled: dict[str, tuple[str, dict[str, Any]]] = {}

    @cached_property
    def _row(self) -> Any:
        return namedtuple("Row", self._statement.exported_columns.keys())  # noqa: PYI024

    def first(self, **values: Any) -> Any:
        """Return the first row, or None."""
        with self._executed(values) as cursor:
            row = cursor.fetchone()
        return row and self._row._make(row)

    def all(self, **values: Any) -> list[Any]:
        """Return all rows."""
        with self._executed(values) as cursor:
            return list(map(self._row._make, cursor.fetchall()))

    def value(self, **values: Any) -> Any:
        """Return the first value of the first row, or None if there is no row."""
        with self._executed(values) as cursor:
            row = cursor.fetchone()
        return row and row[0]

    def run(self, **values: Any) -> int:
        """Change records in the current transaction, and return how many."""
        with self._executed(values) as cursor:
            changed: int = cursor.rowcount
        return changed

    @contextmanager
    def _executed(self, values: dict[str, Any]) -> Iterator[Any]:
        current: Connection | None = g.get("connection")
        dialect = db.engine.dialect
        text, constants = self._compiled.get(dialect.name) or self._compile(dialect)
        try:
            pooled = current.connection if current else db.engine.raw_connection()
            try:
                driver: Any = pooled.driver_connection
                yield driver.execute(text, constants | values)
            finally:
                if not current:
                    pooled.close()
        except dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(
                text, None, error, dialect.loaded_dbapi.Error, hide_parameters=True
            ) from error

    def _compile(self, dialect: Dialect) -> tuple[str, dict[str, Any]]:
        """Compile the statement for a database, with named parameters."""
        if dialect.name == "sqlite":
            dialect = sqlite.dialect(paramstyle="named")
        compiled = self._statement.compile(dialect=dialect)
        self._compiled[dialect.name] = str(compiled), dict(compiled.params)
        return self._compiled[dialect.name]
