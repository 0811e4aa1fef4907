"""`flask move`: from SQLite to PostgreSQL and back, with everything."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from config import Settings
from database import db
from permissions import APP_PERMISSIONS
from tests.support.community import Caller, Community
from tests.support.databases import Cluster, connected, new_file, url_of
from tests.support.server import Server, flask
from tests.system.test_start import start


def fill(path: Path) -> None:
    """Make a community with everything that a database can have in it."""
    community = Community(create_app(Settings(database_url=url_of(path))))
    red, blue = community.team("Red"), community.team("Blue")
    for key in (1, 2, 2**63 - 1):
        community.account(key, red, name=f"Zoë {key} \N{GRINNING FACE}")
    community.award(red, 1, 2, points=7)
    bot = Caller(community.app.test_client(), community.bot(APP_PERMISSIONS))
    bot("PUT", "/callback/account_update", {"url": "http://127.0.0.1:1", "secret": "x"})
    bot("PATCH", "/account/1", {"name": "Ann", "team": blue})
    bot("DELETE", f"/team/{blue}")
    bot("POST", "/auth/create_session", {"account": 1})
    with community.app.app_context():
        db.engine.dispose()


@pytest.fixture
def file() -> Iterator[Path]:
    """Return a SQLite database with a community in it, which nobody uses."""
    with new_file() as path:
        flask(path, "db", "upgrade")
        fill(path)
        gc.collect()  # an app uses the database until it is deleted
        yield path


def move(source: Path | str, target: str) -> tuple[int, str, str]:
    """Run the command; return its status and what it printed."""
    ran = start("flask", "move", target, database=source)
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def other(postgresql: Cluster) -> Iterator[str]:
    """Return an empty PostgreSQL database."""
    with postgresql.new() as database:
        yield database


def contents(database: Path | str) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything in a database."""
    with connected(database) as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(table.select())), key=repr)
            for table in db.metadata.sorted_tables
        }


def test_there_and_back(file: Path, other: str, tmp_path: Path) -> None:
    before = contents(file)
    again = tmp_path / "again.sqlite3"
    for source, target in ((file, other), (other, again)):
        status, printed, _ = move(source, url_of(target))
        assert status == 0
        *counts, last = printed.splitlines()
        assert sorted(counts) == sorted(f"{name}: {len(rows)}" for name, rows in before.items())
        assert last == "All rows were copied, and compared on both sides."
        assert contents(source) == contents(target) == before
    assert before["teams"]
    assert before["deliveries"]
    client = create_app(Settings(database_url=url_of(again))).test_client()
    community = Community(client.application)
    made = client.post("/teams/new", json={"name": "x"}, auth=community.bot(APP_PERMISSIONS, "new"))
    assert made.get_json()["id"] == 3, "the id of a deleted team is not given again"


def test_plans_are_good_at_once(file: Path, other: str) -> None:
    move(file, other)
    with connected(other) as connection:
        known = connection.exec_driver_sql(
            "SELECT relname, reltuples FROM pg_class WHERE relname IN ('accounts', 'teams')"
        )
        assert dict(known.all()) == {"accounts": 3, "teams": 1}  # -1 is unknown


def refused(source: Path | str, target: str) -> str:
    """Run the command, which refuses, on one line; return the reason."""
    status, printed, complaint = move(source, target)
    assert (status, printed) == (1, "")
    (line,) = complaint.splitlines()
    assert line.startswith("Error: Nothing was copied: ")
    return line.removeprefix("Error: Nothing was copied: ")


def test_what_it_cannot_use(file: Path) -> None:
    for url in (
        "no url",
        "postgresql://127.0.0.1:port/x",
        "postgresql+psycopg_async://127.0.0.1/x",
    ):
        assert refused(file, url) == (
            "URL needs the address of a database: SQLite, such as "
            "sqlite:////srv/laurels/laurels.sqlite3, or PostgreSQL, such as "
            "postgresql+psycopg:///laurels, for which requirements-postgresql.lock must be "
            "installed."
        )


def test_what_it_cannot_reach(file: Path, postgresql: Cluster, other: str, tmp_path: Path) -> None:
    """It names the destination, without passwords, and says what the driver says of it."""
    flask(other, "db", "upgrade")
    missing = url_of(tmp_path / "no" / "folder.db")
    assert refused(other, missing) == f"{missing}: unable to open database file."
    nowhere = (
        'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused'
    )
    there = (
        f'connection failed: connection to server on socket "{postgresql.folder}/.s.PGSQL.5432" '
        "failed: FATAL:  "
    )
    stranger = other.replace("postgres@", "stranger:secret@")
    for url, shown, reason in (
        ("postgresql://127.0.0.1:1/x", "postgresql://127.0.0.1:1/x", nowhere),
        (
            "postgresql+psycopg://ann:secret@127.0.0.1:1/x?password=secret&sslpassword=secret",
            "postgresql+psycopg://ann:***@127.0.0.1:1/x",
            nowhere,
        ),
        (postgresql.url("no"), postgresql.url("no"), f'{there}database "no" does not exist'),
        (stranger, stranger.replace("secret", "***"), f'{there}role "stranger" does not exist'),
    ):
        assert refused(file, url) == f"{shown}: {reason}."


def test_what_it_refuses(file: Path, other: str, tmp_path: Path) -> None:
    in_use = "a server or a command is using the database. Stop it, and try again."
    with Server(file):
        assert refused(file, other) == in_use
    with connected(other) as connection:
        assert connection.exec_driver_sql("SELECT to_regclass('teams')").scalar() is None
    assert refused(file, url_of(tmp_path / "x.db")).startswith("the database is in sqlite already.")
    flask(other, "db", "upgrade")
    assert "full path" in refused(other, "sqlite:///x.db")
    assert refused(other, url_of(file)).startswith("the other database is not empty: it has ")
    assert move(file, other)[0] == 0
    with connected(other):
        assert refused(other, url_of(tmp_path / "y.db")) == in_use
    assert refused(file, other).startswith("the other database is not empty: it has ")
