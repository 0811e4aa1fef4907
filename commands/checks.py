"""The checks of `flask doctor`: what is wrong, and what to do about it."""

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask
from sqlalchemy import (
    Connection,
    NullPool,
    Select,
    create_engine,
    func,
    inspect,
    or_,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstrumentedAttribute

import database
from config import ROOT, Settings, misspelt
from database import database_file, db, first_line
from models import Account, App, Award, Awardee, Callback, Delivery, Event, Session, Team, now, utc

OK, WARNING, PROBLEM = "ok", "warning", "problem"
SQLITE = (3, 35)
"""The first SQLite with `RETURNING`."""

LITTLE_SPACE = 50_000_000
"""The number of bytes that should be free besides the room for a copy of the database."""

OUTDATED = "The database is not up to date. Run `.venv/bin/flask db upgrade`."

TOLERANCE = 60
"""How many seconds a delivery may wait, or a clock be off, before it is worth a word."""

STORED_COUNTS: dict[str, tuple[InstrumentedAttribute[int], Select[Any]]] = {
    "Teams with a wrong number of members": (
        Team.member_count,
        select(func.count()).where(Account.team_id == Team.id),
    ),
    "Teams with a wrong number of awards": (
        Team.award_count,
        select(func.count()).where(Award.team_id == Team.id),
    ),
    "Teams with a wrong number of points": (
        Team.points,
        select(func.coalesce(func.sum(Award.points), 0)).where(Award.team_id == Team.id),
    ),
    "Awards with a wrong number of holders": (
        Award.holder_count,
        select(func.count()).where(Awardee.award_id == Award.id),
    ),
}
"""The stored numbers that can be wrong, and what each should be."""


class Finding(NamedTuple):
    """A finding: how bad it is, and what to do about it."""

    level: str
    text: str


class WrongDatabaseError(Exception):
    """A database belongs to a newer version or another program; the message says what to do."""


def current_schema() -> str:
    """Return the number of the last migration, from the start of its file's name."""
    return max(file.name[:4] for file in (ROOT / "migrations/versions").glob("[0-9]*.py"))


@contextmanager
def exit_on_errors() -> Iterator[None]:
    """Exit with one line if the database refuses something in the block."""
    try:
        yield
    except WrongDatabaseError as error:
        raise SystemExit(str(error)) from None
    except DBAPIError as error:
        raise SystemExit(
            f"The database cannot be used: {database.first_line(error.orig)}. "
            "`.venv/bin/flask doctor` says more."
        ) from error


def require_current_schema() -> None:
    """Exit with one line that says what to do if the database is not up to date."""
    path = database_file()
    if path is not None and path.parent.is_dir() and not path.exists():
        found = None  # looking would create it
    else:
        found = stored_schema()
    if found != current_schema():
        raise SystemExit(OUTDATED)


def stored_schema() -> str | None:
    """Return the schema of the app's database; exit if it is the wrong one."""
    with exit_on_errors(), db.engine.connect() as checked:
        found = schema_of(checked)
    db.engine.dispose()  # no connection may cross the fork into a worker
    return found


def schema_of(checked: Connection) -> str | None:
    """Return the number of the last migration that was run on a database; None if none was.

    Raises `WrongDatabaseError` if the database must not be brought up to date.
    """
    tables = inspect(checked).get_table_names()
    found: str | None = None
    if "alembic_version" in tables:
        found = checked.scalar(text("SELECT version_num FROM alembic_version"))
    numbered = re.fullmatch("[0-9]{4}", found or "")
    if found and numbered and found > current_schema():
        raise WrongDatabaseError(
            "The database is from a newer version of Laurels: its schema is "
            f"{found}, this version's {current_schema()}. Upgrade Laurels, or restore an older "
            "backup: `.venv/bin/flask restore FILE`."
        )
    others = sorted({*tables} - {"alembic_version"})
    if others and not (numbered and "accounts" in others):
        raise WrongDatabaseError(
            f"This is another program's database: it has a table {others[0]}. Check DATABASE_URL."
        )
    return found


def upgrade_database(url: str) -> None:
    """Create the tables of a database other than the app's, or bring them up to date.

    Raises `DBAPIError` if it cannot be used, and `WrongDatabaseError` if a migration fails.
    """
    from flask_migrate import Migrate, upgrade  # noqa: PLC0415 - Alembic takes 11 MiB

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    database.init_app(app)
    Migrate(app, db, directory=str(ROOT / "migrations"))
    with app.app_context():
        try:
            upgrade()
        except SystemExit as error:  # which is how migrations end if something is wrong
            if isinstance(error.__cause__, DBAPIError):
                raise error.__cause__ from None
            raise WrongDatabaseError(
                f"the database cannot be brought up to date: {error}"
            ) from None
        finally:
            database.close_database()


def sqlite_faults(checked: sqlite3.Connection) -> str:
    """Return in a few words what is wrong inside a SQLite file; nothing if it is intact."""
    faults = [" ".join(text.split()) for (text,) in checked.execute("PRAGMA integrity_check(3)")]
    faults += [
        f"row {row} of {table} refers to a row of {parent} that does not exist"
        for table, row, parent, _ in checked.execute("PRAGMA foreign_key_check")
    ]
    return "; ".join(fault for fault in faults[:4] if fault != "ok")


def check_configuration(current: Settings) -> Iterator[Finding]:
    """Look for dangerous settings."""
    yield Finding(OK, "The configuration can be read.")
    for name, meant in misspelt():
        yield Finding(WARNING, f"{name} in .env is not a setting: did you mean {meant}?")
    if current.discord_client_id is None:
        yield Finding(
            WARNING,
            "DISCORD_CLIENT_ID is not set: any site that a member ever signed in to could act as "
            "them here. Set it if members sign in with Discord.",
        )
    if not current.trusted_proxies and not _is_loopback(current.host):
        yield Finding(
            WARNING,
            f"HOST={current.host} lets others connect without TLS, and a few slow clients hold up "
            "all others. Put a reverse proxy in front and set TRUSTED_PROXIES=1; if the proxy is "
            "on this machine, leave HOST out.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_database() -> Iterator[Finding]:
    """Look at the database: its file, its state, and the deliveries queued in it."""
    file = database_file()
    if file is not None:
        yield _version()
        if not file.is_file():
            yield Finding(
                PROBLEM,
                f"There is no database at {file}. `.venv/bin/flask db upgrade` creates one, if the "
                "folder is there; if there should be one already, DATABASE_URL is wrong.",
            )
            return
        yield _space(file)
        if file.stat().st_mode & 0o007:
            yield Finding(
                WARNING,
                f"Others on this machine may read {file}, which holds the secrets of callbacks: "
                "`chmod o=` it and the files beside it that end in -wal and -shm.",
            )
        if denied := [*_access(file)]:
            yield from denied
            return  # SQLite would leave files that are not the server's
    yield from _contents()


def _version() -> Finding:
    if sqlite3.sqlite_version_info < SQLITE:
        needed = ".".join(map(str, SQLITE))
        return Finding(
            PROBLEM, f"SQLite is {sqlite3.sqlite_version}: install a Python with {needed} or newer."
        )
    return Finding(OK, f"SQLite is {sqlite3.sqlite_version}.")


def _access(file: Path) -> Iterator[Finding]:
    for path, rights in ((file, os.R_OK | os.W_OK), (file.parent, os.W_OK | os.X_OK)):
        if not os.access(path, rights):
            yield Finding(
                PROBLEM,
                f"You may not read and write {path}. Run this as the user that the server runs "
                "as; if that is you, give yourself permission (chown, chmod).",
            )


def _space(file: Path) -> Finding:
    free = shutil.disk_usage(file.parent).free
    if free < LITTLE_SPACE + file.stat().st_size:
        return Finding(WARNING, f"Only {free / 1e6:.0f} MB are free in {file.parent}: make room.")
    return Finding(OK, f"{free / 1e9:.1f} GB are free.")


def _contents() -> Iterator[Finding]:
    """Look at the contents of the database, as far as possible."""
    engine = create_engine(db.engine.url, poolclass=NullPool)  # ours sets the journal mode
    try:
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            if isinstance(raw, sqlite3.Connection):
                yield _integrity(raw)
                yield _writing(raw)
            if schema_of(connection) != current_schema():
                yield Finding(PROBLEM, OUTDATED)
                return
            yield Finding(OK, "The database is up to date.")
            yield check_apps(connection)
            yield from _stored_counts(connection)
            yield _deliveries(connection)
            yield _clock(connection)
    except WrongDatabaseError as error:
        yield Finding(PROBLEM, str(error))
    except DBAPIError as error:
        yield _failure(error.orig)
    except sqlite3.Error as error:
        yield _failure(error)


def _integrity(raw: sqlite3.Connection) -> Finding:
    if faults := sqlite_faults(raw):
        return Finding(PROBLEM, f"The database is damaged: {faults}. Restore a backup.")
    return Finding(OK, "The database is intact.")


def _writing(raw: sqlite3.Connection) -> Finding:
    try:
        raw.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        return _failure(error)
    raw.execute("ROLLBACK")
    return Finding(OK, "The database can be written to.")


def _failure(error: BaseException | None) -> Finding:
    """Return the finding about an error of the database."""
    name = getattr(error, "sqlite_errorname", "")
    what = first_line(error)
    if password := db.engine.url.password:
        what = what.replace(str(password), "***")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return Finding(PROBLEM, f"The database is damaged: {what}. Restore a backup.")
    if name.startswith("SQLITE_BUSY"):
        return Finding(PROBLEM, f"{what.capitalize()}. Find the program that locks it, or wait.")
    return Finding(
        PROBLEM, f"The database cannot be used: {what}. Check DATABASE_URL, and who may use it."
    )


def check_apps(connection: Connection) -> Finding:
    """Count the apps."""
    if apps := connection.scalar(select(func.count(App.id))):
        return Finding(OK, f"Apps that may use the API: {apps}.")
    return Finding(
        WARNING, "No app may use the API yet: `.venv/bin/flask apps create NAME --all` creates one."
    )


def _stored_counts(connection: Connection) -> Iterator[Finding]:
    """Compare the numbers that triggers keep with new counts."""
    right = True
    for what, (stored, counted) in STORED_COUNTS.items():
        differs = stored != counted.scalar_subquery()
        if wrong := connection.scalar(select(func.count()).where(differs)):
            right = False
            yield Finding(
                PROBLEM,
                f"{what}: {wrong}. Was the database changed by another program? Restore a backup, "
                "or tell the authors of Laurels.",
            )
    if right:
        yield Finding(OK, "The stored numbers of members, awards, points and holders are right.")


def _deliveries(connection: Connection) -> Finding:
    oldest = func.min(Delivery.created_at)
    waiting, since = connection.execute(select(func.count(Delivery.id), oldest)).one()
    if not waiting or since > now() - TOLERANCE:
        return Finding(OK, f"Deliveries queued for receivers of events: {waiting}.")
    error = connection.scalar(
        select(func.coalesce(Callback.last_error, Delivery.last_error))
        .join(Delivery, Delivery.callback_id == Callback.id)
        .where(or_(Callback.last_error.is_not(None), Delivery.last_error.is_not(None)))
        .order_by(Delivery.attempted_at.desc())
        .limit(1)
    )
    return Finding(
        WARNING,
        f"Deliveries queued for receivers of events: {waiting}, since "
        f"{utc(since):%Y-%m-%d %H:%M} UTC; last error: {error or 'none'}. "
        "`.venv/bin/flask callbacks list` says for whom; fix the receiver, then run "
        "`.venv/bin/flask callbacks deliver --all`.",
    )


def _clock(connection: Connection) -> Finding:
    newest = [
        connection.scalar(select(func.max(moment)))
        for moment in (Event.created_at, Session.created_at, App.created_at)
    ]
    ahead = max((moment for moment in newest if moment), default=now())
    if ahead > now() + TOLERANCE:
        return Finding(
            WARNING,
            f"The clock says {utc(now()):%Y-%m-%d %H:%M} UTC, but something was stored at "
            f"{utc(ahead):%Y-%m-%d %H:%M}: it is or was wrong. Set it (`timedatectl` shows it).",
        )
    return Finding(OK, f"The clock says {utc(now()):%Y-%m-%d %H:%M} UTC.")
