"""`flask doctor` finds problems, and changes nothing."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from config import VERSION
from database import db, transaction
from models import Callback, Delivery, Event, now, utc
from tests.support.community import Community
from tests.support.databases import Database, connected
from tests.support.server import command

Make = Callable[..., Flask]
HEALTHY = [
    f"This is Laurels {VERSION}, on Python 3.",
    "The configuration can be read.",
    f"SQLite is {sqlite3.sqlite_version}.",
    "GB are free.",
    "The database is intact.",
    "The database can be written to.",
    "The database is up to date.",
    "Apps that may use the API: 1.",
    "The stored numbers of members, awards, points and holders are right.",
    "Deliveries queued for receivers of events: 0.",
    f"The clock says {utc(now()):%Y}",
]


def findings(printed: str) -> list[tuple[str, str]]:
    """Return the level and the text of each line."""
    lines = [line.split(maxsplit=1) for line in printed.splitlines()]
    return [(level, text) for level, text in lines]


def examine(make_app: Make, **settings: object) -> list[str]:
    """Run it with settings; return the warnings, and check that there are no problems."""
    settings = {"discord_client_id": 1} | settings
    result = make_app(**settings).test_cli_runner().invoke(args=["doctor"])
    assert (result.exit_code, result.stderr) == (0, "")
    found = [(level, text) for level, text in findings(result.stdout) if level != "ok"]
    assert {level for level, _ in found} <= {"warning"}
    return [text for _, text in found]


def problems(database: Database) -> list[str]:
    """Run it on a database with problems; return them, and check that nothing changes."""
    before = contents(database)
    result = command(database, "doctor")
    assert (result.exit_code, result.stderr) == (1, "")
    assert contents(database) == before
    return [text for level, text in findings(result.stdout) if level == "problem"]


def contents(database: Database) -> dict[Path, bytes]:
    """Return the contents of the files in a database's folder, without the marks of readers."""
    return {
        path: path.read_bytes()
        for path in (database.parent.glob("*") if isinstance(database, Path) else ())
        if path.is_file() and os.access(path, os.R_OK) and path.suffix != ".db-shm"
    }


@pytest.fixture
def community(make_app: Make) -> Community:
    """Return a database with an app."""
    community = Community(make_app())
    community.bot()
    return community


@pytest.mark.usefixtures("community")
def test_all_is_well(make_app: Make, database: Database) -> None:
    before = contents(database)
    expected = HEALTHY if isinstance(database, Path) else [*HEALTHY[:2], *HEALTHY[6:]]
    app = make_app(discord_client_id=1, host="::1", allowed_origins=["https://a.example:8443"])
    result = app.test_cli_runner().invoke(args=["doctor"])
    assert (result.exit_code, result.stderr) == (0, "")
    found = findings(result.stdout)
    assert [level for level, _ in found] == ["ok"] * len(expected)
    for (_, text), part in zip(found, expected, strict=True):
        assert part in text
    assert contents(database) == before


@pytest.mark.usefixtures("community")
@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ({"discord_client_id": None}, ["DISCORD_CLIENT_ID is not set"]),
        ({"host": "0.0.0.0"}, ["HOST=0.0.0.0 lets others connect"]),  # noqa: S104
        ({"host": "laurels.example"}, ["HOST=laurels.example lets others connect"]),
        ({"host": "::", "trusted_proxies": 1}, []),
        ({"host": "localhost", "allowed_origins": ["*"]}, []),
    ],
)
def test_settings(make_app: Make, settings: dict[str, object], warnings: list[str]) -> None:
    found = examine(make_app, **settings)
    assert len(found) == len(warnings)
    for text, expected in zip(found, warnings, strict=True):
        assert text.startswith(expected)


@pytest.mark.usefixtures("community")
def test_names_of_settings_that_are_misspelt(
    make_app: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are reported by `doctor` and at the start; names of other programs are ignored."""
    (tmp_path / ".env").write_text(
        "SIGNUP_OPEN=no\nexport database_url=x\nLOG_LEVEL=INFO\nPGHOST=a\nPGPORT=5\nTZ=UTC\n"
    )
    monkeypatch.setattr("config.ROOT", tmp_path)
    expected = [
        "SIGNUP_OPEN in .env is not a setting: did you mean SIGNUPS_OPEN?",
        "database_url in .env is not a setting: did you mean DATABASE_URL?",
    ]
    assert examine(make_app) == expected
    assert [text for text in caplog.messages if ".env" in text] == expected


@pytest.mark.sqlite
@pytest.mark.usefixtures("community")
def test_a_database_that_others_may_read(make_app: Make, database: Path) -> None:
    database.chmod(0o644)
    (found,) = examine(make_app)
    assert found.startswith(f"Others on this machine may read {database}, which holds the secrets")


def test_no_apps(make_app: Make) -> None:
    (found,) = examine(make_app)
    assert "`.venv/bin/flask apps create NAME --all`" in found


@pytest.mark.parametrize(
    ("table", "column", "expected"),
    [
        ("teams", "member_count", "Teams with a wrong number of members: 1. "),
        ("teams", "award_count", "Teams with a wrong number of awards: 1. "),
        ("teams", "points", "Teams with a wrong number of points: 1. "),
        ("awards", "holder_count", "Awards with a wrong number of holders: 1. "),
    ],
)
def test_wrong_counts(
    database: Database, community: Community, table: str, column: str, expected: str
) -> None:
    community.award(community.team("Red"), community.account(10, 1), points=5)
    community.award(community.team("Blue"), community.account(11), points=0)
    with connected(database) as connection:
        connection.exec_driver_sql(f"UPDATE {table} SET {column} = {column} + 1 WHERE id = 2")  # noqa: S608
    (found,) = problems(database)
    assert found.startswith(expected)


def test_deliveries_that_wait(make_app: Make, community: Community) -> None:
    since = now() - 3 * 3600
    with community.app.app_context(), transaction(write=True):
        callback = Callback(app_id=1, event="team_create", url="http://x", secret="sesame")
        db.session.add(callback)
        db.session.flush()
        new = {"callback_id": callback.id, "webhook_id": "m", "body": "sesame"}
        db.session.add(Delivery(**new, subject=1))
    assert examine(make_app) == []
    with community.app.app_context(), transaction(write=True):
        db.session.add(Delivery(**new, subject=2, created_at=since, last_error="answered with 500"))
    (found,) = examine(make_app)
    assert found.startswith(
        f"Deliveries queued for receivers of events: 2, since {utc(since):%Y-%m-%d %H:%M} UTC; "
        "last error: answered with 500. `.venv/bin/flask callbacks list` says"
    )
    assert "sesame" not in found


def test_a_clock_that_is_or_was_wrong(make_app: Make, community: Community) -> None:
    tomorrow = now() + 86400
    with community.app.app_context(), transaction(write=True):
        db.session.add(Event(type="team_create", author="A1", created_at=tomorrow))
    (found,) = examine(make_app)
    assert f"stored at {utc(tomorrow):%Y-%m-%d %H:%M}" in found


@pytest.mark.sqlite
@pytest.mark.usefixtures("community")
def test_little_space(make_app: Make, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(database)._replace(free=10_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert examine(make_app) == [f"Only 10 MB are free in {database.parent}: make room."]


@pytest.mark.sqlite
def test_an_old_sqlite(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 34, 1))
    assert "install a Python with 3.35 or newer" in problems(database)[0]


@pytest.mark.sqlite
def test_no_database(tmp_path: Path, database: Path) -> None:
    for path in (tmp_path / "no.db", tmp_path / "no/folder.db", tmp_path, database / "x.db"):
        (found,) = problems(path)
        assert found.startswith(
            f"There is no database at {path}. `.venv/bin/flask db upgrade` creates one"
        )
        assert path.exists() is (path == tmp_path)


@pytest.mark.sqlite
def test_a_damaged_database(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO awardees VALUES (7, 8, NULL)")
    (found,) = problems(database)
    assert "damaged: row 1 of awardees refers to a row of awards that does not exist" in found
    with database.open("r+b") as opened:
        opened.seek(4096 * 5)
        opened.write(b"junk" * 4096)
    assert all("damaged" in found for found in problems(database))
    for junk in (b"no database" * 1000, b"SQLite format 3\0" + b"junk" * 1000):
        database.write_bytes(junk)
        assert all("damaged" in found for found in problems(database))
    database.write_bytes(b"")
    assert problems(database) == [
        "The database is not up to date. Run `.venv/bin/flask db upgrade`."
    ]


def test_an_old_schema(database: Database) -> None:
    with connected(database) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    assert problems(database) == [
        "The database is not up to date. Run `.venv/bin/flask db upgrade`."
    ]


@pytest.mark.sqlite
def test_a_busy_database(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM apps")
        result = command(Path(f"{database}?timeout=0.05"), "doctor")
    assert (result.exit_code, result.stderr) == (1, "")
    (found,) = (text for level, text in findings(result.stdout) if level == "problem")
    assert found == "Database is locked. Find the program that locks it, or wait."


@pytest.mark.sqlite
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(database: Path) -> None:
    for path, mode in ((database.parent, 0o500), (database, 0o400), (database, 0o200)):
        before = path.stat().st_mode
        path.chmod(mode)
        (found,) = problems(database)
        path.chmod(before)
        assert found.startswith(f"You may not read and write {path}. Run this as the user")


def test_the_database_of_another_program(database: Database) -> None:
    with connected(database) as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    (found,) = problems(database)
    assert found.startswith("This is another program's database: it has a table ")
