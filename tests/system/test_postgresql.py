"""What PostgreSQL does that a SQLite file does not do."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app import create_app
from config import Settings
from database import connection, db, transaction
from permissions import APP_PERMISSIONS
from tests.support.community import Auth, Community, refusal
from tests.support.databases import Cluster, connected
from tests.support.server import flask

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def empty(postgresql: Cluster) -> Iterator[str]:
    """Give a database that `flask db upgrade` made."""
    with postgresql.new() as database:
        flask(database, "db", "upgrade")
        yield database


@pytest.fixture
def app(postgresql: Cluster, empty: str) -> Iterator[Flask]:
    """Give an app on PostgreSQL."""
    with postgresql.new(empty) as database:
        app = create_app(Settings(database_url=database))
        yield app
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def bot(app: Flask) -> Auth:
    """Make an app that may do everything."""
    return Community(app).bot(APP_PERMISSIONS)


def test_a_restart(app: Flask, bot: Auth, postgresql: Cluster) -> None:
    """Nobody is told of the connections that broke while nobody used them."""
    client = app.test_client()
    postgresql.stop()
    postgresql.start()
    assert client.get("/teams/search").status_code == 200
    postgresql.stop()
    postgresql.start()
    assert client.post("/teams/new", json={"name": "Red"}, auth=bot).status_code == 201
    postgresql.stop()
    assert refusal(client.get("/teams/search")) == 503
    assert refusal(client.post("/teams/new", json={"name": "Red"}, auth=bot)) == 503
    postgresql.start()
    assert client.get("/teams/search").status_code == 200


def test_a_connection_that_breaks_in_a_transaction(app: Flask, bot: Auth) -> None:
    url = str(app.config["SQLALCHEMY_DATABASE_URI"])
    client = app.test_client()
    with app.app_context(), suppress(OperationalError), transaction(write=True):
        key = connection().scalar(text("SELECT pg_backend_pid()"))
        with connected(url) as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({key}, 5000)")
    assert client.post("/teams/new", json={"name": "Red"}, auth=bot).status_code == 201


def test_a_full_disk(app: Flask, bot: Auth) -> None:
    with connected(str(app.config["SQLALCHEMY_DATABASE_URI"])) as other:
        other.exec_driver_sql(
            "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$;"
            "CREATE TRIGGER fill BEFORE INSERT ON teams EXECUTE FUNCTION fill()"
        )
    response = app.test_client().post("/teams/new", json={"name": "Red"}, auth=bot)
    assert refusal(response) == 507
    assert "disk is full" in response.text


def test_a_read_is_one_snapshot(app: Flask) -> None:
    community = Community(app)
    community.team("Red")
    count = text("SELECT count(*) FROM teams")
    with app.app_context(), transaction(write=False):
        assert connection().scalar(count) == 1
        with connected(str(app.config["SQLALCHEMY_DATABASE_URI"])) as other:
            other.exec_driver_sql("DELETE FROM teams")
            assert other.scalar(count) == 0
        assert connection().scalar(count) == 1
