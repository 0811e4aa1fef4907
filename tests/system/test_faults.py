"""Faults outside the server are reported as such."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from database import db, transaction
from permissions import APP_PERMISSIONS
from tests.support.community import Community, refusal
from tests.support.databases import Database, connected
from tests.support.description import Description
from tests.support.receiver import SECRET, Receiver


def with_pragma(app: Flask, pragma: str) -> None:
    """Set something on all connections that the app opens from now on."""
    with app.app_context():
        db.engine.dispose()
        event.listen(db.engine, "connect", lambda connection, _: connection.execute(pragma))


@pytest.mark.sqlite
def test_a_full_disk(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    community = Community(app)
    bot = community.bot(APP_PERMISSIONS)
    with_pragma(app, "PRAGMA max_page_count=1")  # SQLite makes that the current size
    client = app.test_client()
    accounts = 0
    while True:
        body = {"id": accounts + 1, "name": "x" * 255, "discriminator": 1}
        response = client.post("/accounts/new", json=body, auth=bot)
        if response.status_code != 201:
            break
        accounts += 1
    assert refusal(response) == 507
    assert "disk is full" in response.text
    assert client.get("/accounts/search").get_json()["results"] == accounts


def test_a_busy_database(
    make_app: Callable[..., Flask], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    bot = Community(app).bot(APP_PERMISSIONS)
    monkeypatch.setattr("database.PATIENCE", 0.05)
    client = app.test_client()
    sqlite = isinstance(database, Path)
    with connected(database) as other:
        other.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else "SELECT pg_advisory_lock(1)")
        response = client.post("/teams/new", json={"name": "Red"}, auth=bot)
        assert refusal(response) == 503
        assert response.headers["Retry-After"] == "5"
        assert client.get("/teams/search").status_code == 200  # readers do not wait
    assert client.post("/teams/new", json={"name": "Red"}, auth=bot).status_code == 201


def test_a_database_that_is_busy_after_a_delivery(
    make_app: Callable[..., Flask], database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """The change is answered, and the log names the reason in one line."""
    app = make_app(callback_timeout=timedelta(seconds=1))
    bot = Community(app).bot(APP_PERMISSIONS)
    sqlite = isinstance(database, Path)
    with Receiver() as receiver, connected(database) as other:
        body = {"url": receiver.url, "secret": SECRET}
        app.test_client().put("/callback/team_create", json=body, auth=bot)
        lock = "BEGIN IMMEDIATE" if sqlite else "SELECT pg_advisory_lock(1)"
        receiver.before_answer = lambda _: other.exec_driver_sql(lock).close()
        response = app.test_client().post("/teams/new", json={"name": "Red"}, auth=bot)
        assert response.status_code == 201
    (warning,) = [one for one in caplog.records if "stopped" in one.getMessage()]
    reason = "database is locked" if sqlite else "canceling statement due to lock timeout"
    assert warning.getMessage() == f"Delivery stopped; the rest is sent later: {reason}"
    assert warning.levelname == "WARNING"
    assert not warning.exc_info


def test_a_turn_that_does_not_come(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer does not wait forever for those before it."""
    bot = Community(app).bot(APP_PERMISSIONS)
    monkeypatch.setattr("database.PATIENCE", 0.05)
    with app.app_context(), transaction(write=True), ThreadPoolExecutor() as pool:
        asked = pool.submit(client.post, "/teams/new", json={"name": "Red"}, auth=bot)
        assert refusal(asked.result()) == 503
    assert client.post("/teams/new", json={"name": "Red"}, auth=bot).status_code == 201


@pytest.mark.sqlite
@pytest.mark.parametrize("warm", [False, True], ids=["new connections", "old connections"])
def test_a_broken_database(make_app: Callable[..., Flask], database: Path, warm: bool) -> None:
    app = make_app()
    client = app.test_client()
    bot = Community(app).bot(APP_PERMISSIONS)
    assert client.get("/health").get_json() == {"status": "ok"}
    if not warm:
        with app.app_context():
            db.engine.dispose()
    other = sqlite3.connect(database)
    other.execute("CREATE TABLE other (id)")  # so nothing read before is still good
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with database.open("r+b") as file:
        file.write(b"not a database" * 1000)
    assert refusal(client.get("/health")) == 503
    assert refusal(client.get("/teams/search")) == 503
    assert refusal(client.post("/teams/new", json={"name": "Red"}, auth=bot)) == 503


def test_a_database_without_its_tables(make_app: Callable[..., Flask], database: Database) -> None:
    app = make_app()
    with connected(database) as other:
        for table in ("deliveries", "callbacks", "apps"):
            other.exec_driver_sql(f"DROP TABLE {table}")
    assert refusal(app.test_client().get("/health")) == 503


@pytest.fixture
def _faults(description: Description) -> Iterator[None]:
    """Allow answers that the description does not have."""
    description.expects_faults = True
    yield
    description.expects_faults = False


@pytest.mark.usefixtures("_faults")
def test_a_fault_of_our_own(
    make_app: Callable[..., Flask],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app()
    monkeypatch.setattr("queries.team", lambda _: 1 / 0)
    response = app.test_client().get("/team/1")
    assert refusal(response) == 500
    assert "ZeroDivision" not in response.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.usefixtures("_faults")
def test_a_traceback_holds_no_secret(
    make_app: Callable[..., Flask], database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    bot = Community(app).bot(APP_PERMISSIONS)
    with connected(database) as other:
        other.exec_driver_sql("ALTER TABLE callbacks ADD COLUMN x INTEGER DEFAULT 0 CHECK (x > 0)")
    body = {"url": "http://x", "secret": "sesame"}
    response = app.test_client().put("/callback/team_create", json=body, auth=bot)
    assert refusal(response) == 500
    assert "Traceback" in caplog.text
    assert "sesame" not in caplog.text + response.text
