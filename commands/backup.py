"""`flask backup`: a copy of the database, made while the server writes."""

import errno
import os
import signal
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from flask.cli import with_appcontext
from sqlalchemy.exc import DBAPIError

from commands.checks import sqlite_faults
from database import connection, database_file, transaction

GOOD_FOLDER = "Choose an existing folder that you may write to and that has room."
PAGES = 1000
"""How many pages one step copies: about 4 MB."""


@click.command("backup")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@with_appcontext
def backup(file: Path | None) -> None:
    """Copy the database to FILE, a new file, even while the server runs.

    Without FILE, the copy is put in the current folder, and named by date and time. The copy is
    checked before it gets its name, is complete in itself, and only you can read it, since it
    holds the secrets of callbacks. Nothing is left behind on failure.
    """
    source = database_file()
    if source is None:
        raise click.ClickException("The database is not SQLite: use `pg_dump` to back it up.")
    file = file or Path(stamped("laurels"))
    if not source.is_file():
        raise click.ClickException(f"There is no database at {source}. Is DATABASE_URL right?")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up then, as after Ctrl-C
    try:
        if os.path.lexists(file):
            raise FileExistsError  # noqa: TRY301 - the same as when it appears meanwhile
        with TemporaryDirectory(dir=file.parent, prefix=f".{file.name[:50]}.") as folder:
            copy = Path(folder, "copy.sqlite3")
            copy.touch(mode=0o600)
            _copy(copy)
            _check(copy)
            sync(copy)
            os.link(copy, file)
        with suppress(OSError):  # of a folder that cannot be listed, say: the backup exists
            sync(file.parent)
    except FileExistsError:
        raise click.ClickException(
            f"{file} already exists, and was not changed. Choose another name."
        ) from None
    except (OSError, sqlite3.Error, DBAPIError) as error:
        raise click.ClickException(f"No backup was made: {_reason(error, file.parent)}") from None
    click.echo(f"Backed up to {file} ({file.stat().st_size / 1e6:.1f} MB).")


def stamped(name: str) -> str:
    """Return a file name with the date and time."""
    return time.strftime(f"{name}-%Y-%m-%d-%H%M%S.sqlite3")


def _copy(copy: Path) -> None:
    """Copy all pages as they are at one moment.

    The open transaction shows the same pages to every step and, in WAL mode, holds up no writer.
    Without it, each write by others would start the copy again, perhaps forever.
    """
    on_terminal = sys.stderr.isatty()
    with closing(sqlite3.connect(copy)) as target, transaction(write=False):
        pages = connection().exec_driver_sql("PRAGMA page_count").scalar_one()
        source = connection().connection.driver_connection
        assert isinstance(source, sqlite3.Connection)  # noqa: S101 - what the dialect has
        with click.progressbar(
            length=pages, label="Copying", hidden=not on_terminal, file=sys.stderr
        ) as bar:
            source.backup(
                target,
                pages=PAGES,
                progress=lambda _, remaining, total: bar.update(total - remaining - bar.pos),
            )
        target.execute("PRAGMA journal_mode=DELETE")  # one file, without a -wal beside it


def _check(copy: Path) -> None:
    with closing(sqlite3.connect(f"{copy.resolve().as_uri()}?mode=ro", uri=True)) as copied:
        if faults := sqlite_faults(copied):
            raise click.ClickException(f"No backup was made: the database is damaged: {faults}.")
        if not copied.execute("SELECT version_num FROM alembic_version").fetchall():
            raise click.ClickException("No backup was made: the database has no schema version.")


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception, folder: Path) -> str:
    """Return the reason for a failure, and what to do."""
    if isinstance(error, OSError):
        if error.errno in {errno.EPERM, errno.EOPNOTSUPP}:
            return (
                f"{folder} has no hard links (FAT?). Back up to another disk, and copy from there."
            )
        return f"{error.strerror} ({folder}). {GOOD_FOLDER}"
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(cause, "sqlite_errorname", "")
    if name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR"):
        return f"{cause} ({folder}). {GOOD_FOLDER}"
    return f"{cause}. `.venv/bin/flask doctor` says more."
