"""`flask restore`: replaces the database with a backup, and keeps both."""

import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from flask.cli import with_appcontext
from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

import database
from commands.backup import stamped, sync
from commands.checks import (
    WrongDatabaseError,
    current_schema,
    schema_of,
    sqlite_faults,
    upgrade_database,
)

PAGE = 4096
"""The size of SQLite's pages."""
LOGS = ("-wal", "-journal")
"""The suffixes of the files that belong to the database beside them."""


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@with_appcontext
def restore(file: Path) -> None:
    """Replace the database with FILE, a backup, while no server runs.

    A copy of FILE is checked and upgraded before anything is changed. The old database is kept
    beside the new one, under a name with date and time.
    """
    target = database.database_file()
    if target is None:
        raise click.ClickException("The database is not SQLite: use `pg_restore` to restore it.")
    target = target.resolve()  # SQLite keeps its logs beside the file, not beside a link to it
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up then, as after Ctrl-C
    try:
        database.claim_folder()
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:50]}.") as folder:
            copy = _copy(file, Path(folder))
            if (schema := _checked_schema(copy)) != current_schema():
                _upgrade(copy)
                click.echo(f"Upgraded a copy of it from schema {schema} to {current_schema()}.")
            sync(copy)
            _empty_log(target)
            _put_away(target)
            copy.replace(target)
            sync(target.parent)
    except BlockingIOError:
        raise click.ClickException(
            "Nothing was restored: a server or a command is using the database (or another one in "
            f"{target.parent}). Stop it, and try again."
        ) from None
    except WrongDatabaseError as error:
        raise click.ClickException(f"Nothing was restored: {error}") from None
    except (sqlite3.Error, DBAPIError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise click.ClickException(f"Nothing was restored: {file}: {cause}.") from None
    except OSError as error:
        raise click.ClickException(
            f"Nothing was restored: {error.strerror} ({error.filename or target.parent})."
        ) from None
    click.echo(f"Restored {file} as {target} ({target.stat().st_size / 1e6:.1f} MB).")


def _empty_log(target: Path) -> None:
    """Have SQLite move its log into the database, as it does if no other program has it open."""
    if not target.exists() or target.stat().st_size < PAGE:
        return  # beside a file without a page, SQLite would delete the log
    with closing(sqlite3.connect(target, timeout=0)) as old:
        try:
            old.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error as error:
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise BlockingIOError from None
            # otherwise it is damaged, and is put away as it is


def _copy(file: Path, folder: Path) -> Path:
    copy = folder / "copy.sqlite3"
    copy.touch(mode=0o600)
    for end in ("", *LOGS):
        if Path(f"{file}{end}").exists():
            shutil.copyfile(f"{file}{end}", f"{copy}{end}")
    return copy


def _checked_schema(copy: Path) -> str:
    """Return the schema of a database if it is Laurels' and intact, and leave it in one file."""
    engine = create_engine(URL.create("sqlite", database=str(copy)), poolclass=NullPool)
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - what the dialect has
        raw.execute("PRAGMA journal_mode=DELETE")
        if faults := sqlite_faults(raw):
            raise WrongDatabaseError(f"the file is damaged: {faults}.")
        schema = schema_of(connection)
    if schema is None:
        raise WrongDatabaseError("the file is an empty database.")
    return schema


def _upgrade(copy: Path) -> None:
    try:
        upgrade_database(f"sqlite:///{copy}")
    except DBAPIError as error:
        raise WrongDatabaseError(
            f"the database cannot be brought up to date: {error.orig}."
        ) from None


def _put_away(target: Path) -> None:
    """Give the database a second name; under the first, leave the database without its logs.

    At each moment all of it exists, and nothing that would damage another database.
    """
    kept = target.with_name(stamped(f"{target.stem}-replaced"))
    for end in ("", *LOGS):
        if Path(f"{target}{end}").exists():
            os.link(f"{target}{end}", f"{kept}{end}")
    sync(target.parent)
    for end in (*LOGS, "-shm"):
        Path(f"{target}{end}").unlink(missing_ok=True)
    sync(target.parent)
    if kept.exists():
        click.echo(f"The old database is kept as {kept}.")
