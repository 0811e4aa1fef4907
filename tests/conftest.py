"""The few fixtures: a database, the app on it, a client, a community."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from api.middleware import REQUEST_ID
from app import create_app
from config import Settings
from database import db, transaction
from tests.support.community import Auth, Caller, Community
from tests.support.description import Description
from tests.support.server import Server, flask

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs us behind


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database that `flask db upgrade` made."""
    path = tmp_path_factory.mktemp("database") / "empty.db"
    flask(path, "db", "upgrade")
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    """Return a database of the test's own."""
    return Path(shutil.copy(empty_database, tmp_path / "laurels.db"))


@pytest.fixture
def make_app(database: Path) -> Iterator[Callable[..., Flask]]:
    """Make apps on the test's database, with settings that differ from the defaults."""
    apps = []

    def make(**settings: object) -> Flask:
        app = create_app(Settings(database_url=f"sqlite:///{database}", **settings))  # type: ignore[arg-type]
        apps.append(app)
        return app

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="session")
def shared_app(empty_database: Path) -> Iterator[Flask]:
    """Make one app with the default settings, for all tests that can do with it."""
    database = shutil.copy(empty_database, empty_database.with_name("shared.db"))
    app = create_app(Settings(database_url=f"sqlite:///{database}"))
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="session")
def description(shared_app: Flask) -> Description:
    """Return what the API says of itself."""
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
        for table in reversed(db.metadata.sorted_tables):
            db.session.execute(table.delete())
        db.session.execute(text("DELETE FROM sqlite_sequence"))


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Return a client of that app."""
    return app.test_client()


@pytest.fixture
def community(app: Flask) -> Community:
    """Return what is in the app's database, to write to."""
    return Community(app)


@pytest.fixture
def as_(client: FlaskClient) -> Callable[[Auth | None], Caller]:
    """Return clients with credentials."""
    return lambda auth: Caller(client, auth)


@pytest.fixture
def server(database: Path) -> Iterator[Server]:
    """Return the real server, on a free port and the test's database."""
    with Server(database) as server:
        yield server
