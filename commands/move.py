"""`flask move`: from SQLite to PostgreSQL, or back."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import (
    Connection,
    Engine,
    NullPool,
    Table,
    create_engine,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

import database
from commands.checks import (
    STORED_COUNTS,
    WrongDatabaseError,
    require_current_schema,
    upgrade_database,
)
from config import DATABASE, is_database
from database import Base, db

ROWS_AT_ONCE = 1000
COUNTS = {column.expression for column, _ in STORED_COUNTS.values()}
"""Columns that triggers count in as the rows come."""
PASSWORDS = ("password", "sslpassword")
"""What psycopg takes for a password in the query of a URL."""


@click.command("move")
@click.argument("url")
@with_appcontext
def move(url: str) -> None:
    """Copy the whole database to URL, a database of the other kind: SQLite or PostgreSQL.

    It must be empty; its tables are created. All rows are copied and compared, all or nothing.
    Stop the server first, since changes made meanwhile would be missing. The current database
    stays as it is, and is used until DATABASE_URL is changed.
    """
    require_current_schema()
    try:
        target = _other(url)
        _claim_database()
        _make_tables(url)
        with database.transaction(write=False), target.begin() as new:
            copied = list(_copy(database.connection(), new))
    except BlockingIOError:
        raise click.ClickException(
            "Nothing was copied: a server or a command is using the database. Stop it, and try "
            "again."
        ) from None
    except DBAPIError as error:
        reason = database.first_line(error.orig)
        raise click.ClickException(f"Nothing was copied: {reason}.") from None
    except WrongDatabaseError as error:
        raise click.ClickException(f"Nothing was copied: {error}") from None
    if target.dialect.name != "sqlite":
        _tidy(target)
    click.echo("\n".join([*copied, "All rows were copied, and compared on both sides."]))


def _claim_database() -> None:
    """Raise BlockingIOError if a server or a command is using the app's database."""
    if database.database_file() is not None:
        database.claim_folder()
        return
    db.engine.dispose()  # our own connections
    with database.transaction(write=False):
        others = database.connection().scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )
    if others:
        raise BlockingIOError


def _other(url: str) -> Engine:
    """Return the engine of a database of the other kind."""
    if not is_database(url):
        raise WrongDatabaseError(f"URL needs {DATABASE}.")
    other = create_engine(url, poolclass=NullPool)
    if other.dialect.name == db.engine.dialect.name:
        raise WrongDatabaseError(
            f"the database is in {other.dialect.name} already. To copy it, use "
            "`.venv/bin/flask backup`, or `pg_dump`."
        )
    if other.dialect.name == "sqlite" and not Path(other.url.database or "").is_absolute():
        raise WrongDatabaseError("give the full path of the file, as in sqlite:////srv/laurels.db")
    return other


def _make_tables(url: str) -> None:
    try:
        upgrade_database(url)
    except DBAPIError as error:
        shown = make_url(url).difference_update_query(PASSWORDS).render_as_string()
        raise WrongDatabaseError(f"{shown}: {database.first_line(error.orig)}.") from None


def _tidy(target: Engine) -> None:
    """Give PostgreSQL statistics now; without them, until it makes them, it reads whole tables."""
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with suppress(DBAPIError), target.connect() as new:
        new.execution_options(isolation_level="AUTOCOMMIT").execute(
            text(f"VACUUM ANALYZE {tables}")
        )


def _copy(old: Connection, new: Connection) -> Iterator[str]:
    """Copy all tables and compare them; return how many rows each has."""
    tables = Base.metadata.sorted_tables
    for table in tables:
        if new.scalar(select(func.count()).select_from(table)):
            raise WrongDatabaseError(
                f"the other database is not empty: it has {table.name}. Name a new one."
            )
    for table in tables:
        counts = {column.name: 0 for column in table.columns if column in COUNTS}
        for rows in _rows(old, table).mappings().partitions(ROWS_AT_ONCE):
            new.execute(table.insert(), [dict(row) | counts for row in rows])
    for name, last in _numbering(old):
        _continue_after(new, name, last)
    for table in tables:
        pairs = zip_longest(_rows(old, table), _rows(new, table))
        number = 0
        for number, (before, after) in enumerate(pairs, 1):
            if before != after:
                raise WrongDatabaseError(f"row {number} of {table.name} is not the same.")
        yield f"{table.name}: {number}"


def _rows(connection: Connection, table: Table) -> Any:
    statement = select(table).order_by(*table.primary_key)
    return connection.execute(statement.execution_options(yield_per=ROWS_AT_ONCE))


def _numbering(old: Connection) -> Iterator[tuple[str, int]]:
    """Return the last id that each table gave, also to a row that was deleted since."""
    if old.dialect.name == "sqlite":
        for name, last in old.execute(text("SELECT name, seq FROM sqlite_sequence WHERE seq > 0")):
            yield name, last
        return
    numbered = (
        table.name
        for table in Base.metadata.sorted_tables
        if table.dialect_options["sqlite"]["autoincrement"]
    )
    for name in numbered:
        sequence = old.scalar(text("SELECT pg_get_serial_sequence(:name, 'id')"), {"name": name})
        last, is_called = old.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()  # noqa: S608 - PostgreSQL's own name
        if is_called:
            yield name, last


def _continue_after(new: Connection, name: str, last: int) -> None:
    values = {"name": name, "last": last}
    if new.dialect.name != "sqlite":
        new.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :last)"), values)
    elif not new.execute(
        text("UPDATE sqlite_sequence SET seq = :last WHERE name = :name"), values
    ).rowcount:
        new.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :last)"), values)
