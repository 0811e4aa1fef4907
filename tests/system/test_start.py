"""Starting: the configuration, and databases that are or are not up to date."""

import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import requests
from sqlalchemy import create_engine

from config import Settings
from tests.support.databases import Database
from tests.support.server import BIN, ROOT, Server, environment, free_port


def start(*command: str, database: Database, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start something that should soon stop by itself."""
    return subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=ROOT,
        env=environment(database, **settings),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


GUNICORN = ("gunicorn",)
GUNICORN_WITH_FACTORY = ("gunicorn", "app:create_app()")
FLASK_RUN = ("flask", "run", "--port", "0")
COMMAND = ("flask", "apps", "list")


@pytest.mark.parametrize("command", [GUNICORN_WITH_FACTORY, FLASK_RUN, COMMAND])
def test_a_database_that_is_not_up_to_date(
    blank_database: Database, command: tuple[str, ...]
) -> None:
    stopped = start(*command, database=blank_database, PORT="18471")
    assert stopped.returncode == 1
    assert "not up to date. Run `.venv/bin/flask db upgrade`." in stopped.stderr
    assert "Traceback" not in stopped.stderr


@pytest.mark.parametrize("command", [GUNICORN, COMMAND])
def test_a_database_that_cannot_be_opened(
    blank_database: Database, command: tuple[str, ...]
) -> None:
    if isinstance(blank_database, Path):
        missing: Database = blank_database.with_name("no") / "folder.db"
        reason = "unable to open database file"
    else:
        missing = blank_database.replace("/test", "/no")
        reason = "does not exist"
    stopped = start(*command, database=missing, PORT="18471")
    assert stopped.returncode == 1
    assert reason in stopped.stderr
    assert "Traceback" not in stopped.stderr


@pytest.mark.parametrize("command", [GUNICORN, COMMAND])
def test_a_database_server_that_cannot_be_reached(command: tuple[str, ...]) -> None:
    """One line, although the driver's message has more of them."""
    url = f"postgresql+psycopg://127.0.0.1:{free_port()}/laurels"
    (line,) = start(*command, database=url, PORT="18471").stderr.splitlines()
    assert line.startswith("The database cannot be used: connection failed: ")
    assert line.endswith("Connection refused. `.venv/bin/flask doctor` says more.")


def test_workers(database: Database) -> None:
    with Server(database, WORKERS="2") as server:
        last = time.monotonic() + 60
        while len(server.workers) < 2:  # the first may answer before there is a second
            assert time.monotonic() < last
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("HOST", ""),
        ("HOST", "256.0.0.1"),
        ("HOST", "nowhere.invalid"),
        ("HOST", "a" * 64),
        ("DATABASE_URL", "laurels.db"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///laurels.db?timeout=long"),
        ("DATABASE_URL", "mysql+none://host/laurels"),
        ("DATABASE_URL", "mysql+pymysql://host/laurels"),
        ("DATABASE_URL", "postgresql://host:port/laurels"),
        ("DATABASE_URL", "postgresql+psycopg_async://host/laurels"),
        ("WORKERS", "0"),
        ("WORKERS", "auto"),
        ("SIGNUPS_OPEN", "perhaps"),
        ("MAX_SESSION_AGE", "a month"),
        ("MAX_SESSION_AGE", "0s"),
        ("MAX_SESSION_AGE", "-3d"),
        ("MAX_SESSION_AGE", "99999999999999w"),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXIES", "all"),
        ("ALLOWED_ORIGINS", "a.example"),
        ("ALLOWED_ORIGINS", "https://a.example/"),
        ("ALLOWED_ORIGINS", "https://*.a.example"),
        ("ALLOWED_ORIGINS", "https://a.example, https://[a.example"),
        ("COMMUNITY_NAME", " "),
        ("COMMUNITY_NAME", "x" * 101),
        ("COMMUNITY_NAME", "a\u202eb"),
        ("PUBLIC_URL", "a.example"),
        ("PUBLIC_URL", "https://a.example/laurels"),
        ("PUBLIC_URL", "https://[a.example"),
        ("PUBLIC_PAGES", "perhaps"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_bad_settings(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"^Bad configuration: {name} needs .+[.]$"):
        Settings.load()


@pytest.mark.parametrize("scheme", ["mysql+pymysql", "postgresql+asyncpg"])
def test_a_database_that_is_not_supported(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """It is refused even if its driver is installed, as a module stands in for it here."""
    driver = ModuleType(scheme.split("+")[1])
    vars(driver)["paramstyle"] = "format"
    monkeypatch.setitem(sys.modules, driver.__name__, driver)
    url = f"{scheme}://user:secret@host/laurels"
    assert create_engine(url).url.drivername == scheme
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SystemExit) as stopped:
        Settings.load()
    assert str(stopped.value) == (
        "Bad configuration: DATABASE_URL needs the address of a database: SQLite, such as "
        "sqlite:////srv/laurels/laurels.sqlite3, or PostgreSQL, such as "
        "postgresql+psycopg:///laurels, for which requirements-postgresql.lock must be installed."
    )


@pytest.mark.parametrize(
    "url", ["sqlite+pysqlite:////a.db", "postgresql:///a", "postgresql+psycopg://b@c:1/a"]
)
def test_databases_that_are_supported(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert Settings.load() == Settings(database_url=url)


@pytest.mark.parametrize(
    ("field", "text"),
    {
        "host": "::1",
        "port": "8001",
        "database_url": "sqlite:////elsewhere.db",
        "workers": "2",
        "signups_open": "false",
        "max_session_age": "1d",
        "allowed_origins": "https://a.example",
        "community_name": "Autumn Games",
        "public_url": "https://a.example/",
        "public_pages": "false",
        "trusted_proxies": "1",
        "log_level": "DEBUG",
        "callback_timeout": "1s",
        "callback_retention": "1d",
        "event_retention": "1d",
        "discord_api_url": "http://127.0.0.1",
        "discord_cdn_url": "http://127.0.0.1",
        "discord_client_id": "5",
        "discord_rate_limit": "1/hour",
    }.items(),
)
def test_good_settings(monkeypatch: pytest.MonkeyPatch, field: str, text: str) -> None:
    """Each is read from its variable, and all are in this test."""
    monkeypatch.setenv(field.upper(), text)
    changed = {one.name for one in fields(Settings) if _differs(one.name)}
    assert changed == {field}
    (parameters,) = test_good_settings.pytestmark  # type: ignore[attr-defined]
    assert {name for name, _ in parameters.args[1]} == {one.name for one in fields(Settings)}


def _differs(name: str) -> bool:
    return bool(getattr(Settings.load(), name) != getattr(Settings(), name))


@pytest.mark.parametrize("command", [GUNICORN, COMMAND])
def test_a_bad_setting_stops_the_start(empty_database: Database, command: tuple[str, ...]) -> None:
    stopped = start(*command, database=empty_database, PORT="http")
    assert stopped.returncode == 1
    expected = "Bad configuration: PORT needs a number from 1 to 65535.\n"
    assert stopped.stderr.endswith(expected)
    assert "Traceback" not in stopped.stderr


def test_an_address_of_another_machine(empty_database: Database) -> None:
    stopped = start(*GUNICORN, database=empty_database, HOST="192.0.2.1", PORT="18471")
    assert stopped.returncode == 1
    assert stopped.stderr.endswith(
        "\nBad configuration: HOST or PORT: cannot listen on 192.0.2.1:18471: "
        "Cannot assign requested address.\n"
    )
    assert "Traceback" not in stopped.stderr


def test_a_taken_port(server: Server) -> None:
    stopped = start(*GUNICORN, database=server.database, PORT=str(server.port))
    assert stopped.returncode == 1
    assert stopped.stderr.splitlines()[-1] == (
        f"Port {server.port} is taken, perhaps by a Laurels that is already running. "
        f"`make run PORT={server.port + 1}` serves on another."
    )
    assert "Traceback" not in stopped.stderr


def test_the_start_says_where_to_look(server: Server) -> None:
    assert f"Laurels is at {server.url}\n" in Path(server.log.name).read_text()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104
        ("::", "http://[::1]:8000"),
        ("laurels.example", "http://laurels.example:8000"),
    ],
)
def test_where_to_look(host: str, url: str) -> None:
    assert Settings(host=host).local_url == url


def test_settings(database: Database) -> None:
    with Server(
        database,
        SIGNUPS_OPEN="no",
        MAX_SESSION_AGE="2w",
        ALLOWED_ORIGINS="https://example.com, https://other.example,",
        LOG_LEVEL="DEBUG",
        TRUSTED_PROXIES="1",
    ) as server:
        assert requests.get(f"{server.url}/accounts/signups", timeout=60).json() == {
            "signups_open": False
        }
        for origin, allowed in (("https://other.example", True), ("https://bad.example", False)):
            answer = requests.get(f"{server.url}/health", headers={"Origin": origin}, timeout=60)
            assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is allowed
            exposed = answer.headers.get("Access-Control-Expose-Headers")
            assert exposed == ("Retry-After, X-Request-ID" if allowed else None)


@pytest.mark.sqlite
def test_a_command_without_a_database_makes_none(tmp_path: Path) -> None:
    assert "not up to date" in start(*COMMAND, database=tmp_path / "new.db").stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sqlite
def test_upgrade_of_what_is_no_database(tmp_path: Path) -> None:
    database = tmp_path / "laurels.db"
    database.write_bytes(b"not a database" * 1000)
    stopped = start("flask", "db", "upgrade", database=database)
    assert stopped.returncode == 1
    assert stopped.stderr.endswith(
        "The database cannot be used: file is not a database. `.venv/bin/flask doctor` says more.\n"
    )
    assert "Traceback" not in stopped.stderr
