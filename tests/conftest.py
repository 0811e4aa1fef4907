"""The few fixtures: a database, the app on it, a client, a community."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.middleware import REQUEST_ID
from app import create_app
from config import Settings
from database import connection, db, transaction
from tests.support.community import Auth, Caller, Community
from tests.support.databases import (
    MISSING,
    POSTGRESQL,
    Cluster,
    Database,
    NewDatabase,
    new_file,
    url_of,
)
from tests.support.description import Description
from tests.support.server import Server, flask
from tests.support.typescript import MISSING as NO_TYPESCRIPT
from tests.support.typescript import TypeScript

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # ignored if a shell runs us in the background

KINDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
"""The markers of tests that run on only one of the databases."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--postgresql", action="store_true", help="run the tests on PostgreSQL")
    parser.addoption("--screenshots", help="the folder to keep pictures of pages in")


def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests run at once: many spend most of their time waiting."""
    return 2 * (os.cpu_count() or 1)


def pytest_configure(config: pytest.Config) -> None:
    for name, database in KINDS.items():
        config.addinivalue_line("markers", f"{name}: about a feature that only {database} has")
    if config.getoption("postgresql") and not POSTGRESQL:
        raise pytest.UsageError(f"--postgresql {MISSING}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    other = "sqlite" if config.getoption("postgresql") else "postgresql"
    for item in items:
        if item.get_closest_marker(other):
            reason = f"is about a feature that only {KINDS[other]} has"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """Return a PostgreSQL for these tests only."""
    if not POSTGRESQL:
        pytest.skip(MISSING)
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """Return a function that makes databases of the kind under test."""
    if request.config.getoption("postgresql"):
        new: NewDatabase = request.getfixturevalue("postgresql").new
        return new
    return new_file


@pytest.fixture(scope="session")
def empty_database(new_database: NewDatabase) -> Iterator[Database]:
    """Return a database made by `flask db upgrade`."""
    with new_database() as database:
        flask(database, "db", "upgrade")
        yield database


@pytest.fixture
def blank_database(new_database: NewDatabase) -> Iterator[Database]:
    """Return a database without tables, of the test's own."""
    with new_database() as database:
        yield database


@pytest.fixture
def database(new_database: NewDatabase, empty_database: Database) -> Iterator[Database]:
    """Return a database of the test's own."""
    with new_database(empty_database) as database:
        yield database


@pytest.fixture
def make_app(database: Database) -> Iterator[Callable[..., Flask]]:
    """Make apps on the test's database, with settings that differ from the defaults."""
    apps = []

    def make(**settings: object) -> Flask:
        app = create_app(Settings(database_url=url_of(database), **settings))  # type: ignore[arg-type]
        apps.append(app)
        return app

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="session")
def shared_app(new_database: NewDatabase, empty_database: Database) -> Iterator[Flask]:
    """Make one app with the default settings, for all tests that need no other."""
    with new_database(empty_database) as database:
        app = create_app(Settings(database_url=url_of(database)))
        yield app
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="session")
def description(shared_app: Flask) -> Description:
    """Return the API's description of itself."""
    response = shared_app.test_client().get("/openapi.json")
    assert response.status_code == 200, "see the log: the description could not be made"
    return Description(response.get_json())


@pytest.fixture(scope="session", autouse=True)
def _check_all_responses(description: Description) -> Iterator[None]:
    """Hold every response in any test against the description."""
    open_, send = FlaskClient.open, requests.Session.send

    def checked_open(client: FlaskClient, *args: Any, **options: Any) -> TestResponse:
        response = open_(client, *args, **options)
        asked = response.request
        description.check(asked.method, asked.path, response.status_code, response.data)
        return response

    def checked_send(
        session: requests.Session, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        response = send(session, request, **options)
        if REQUEST_ID in response.headers:
            path = urlsplit(request.url or "").path
            description.check(request.method or "", path, response.status_code, response.content)
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlaskClient, "open", checked_open)
        patch.setattr(requests.Session, "send", checked_send)
        yield


@pytest.fixture
def app(shared_app: Flask) -> Iterator[Flask]:
    """Return an app with the default settings and an empty database."""
    yield shared_app
    with shared_app.app_context(), transaction(write=True):
        tables = [table.name for table in reversed(db.metadata.sorted_tables)]
        if connection().dialect.name == "sqlite":
            statements = [f"DELETE FROM {table}" for table in [*tables, "sqlite_sequence"]]  # noqa: S608
        else:
            statements = [f"TRUNCATE {', '.join(tables)} RESTART IDENTITY"]
        for statement in statements:
            connection().exec_driver_sql(statement)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Return a client of that app."""
    return app.test_client()


@pytest.fixture
def community(app: Flask) -> Community:
    """Return a community that writes to the app's database."""
    return Community(app)


@pytest.fixture
def as_(client: FlaskClient) -> Callable[[Auth | None], Caller]:
    """Return clients with credentials."""
    return lambda auth: Caller(client, auth)


@pytest.fixture
def server(database: Database) -> Iterator[Server]:
    """Return the real server, on a free port and the test's database."""
    with Server(database) as server:
        yield server


@pytest.fixture
def typescript(tmp_path: Path) -> TypeScript:
    """Return a folder to compile and run TypeScript in."""
    if NO_TYPESCRIPT:
        pytest.skip(NO_TYPESCRIPT)
    return TypeScript(tmp_path)
