"""Every setting, read from the environment (or `.env`) and checked once."""

import re
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields, replace
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from socket import getaddrinfo
from typing import Any, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from environs import Env
from flask import current_app
from limits import parse
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError

VERSION = "1.0.0"
ROOT = Path(__file__).parent
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

DATABASE = (
    "the address of a database: SQLite, such as sqlite:////srv/laurels/laurels.sqlite3, "
    "or PostgreSQL, such as postgresql+psycopg:///laurels, for which "
    "requirements-postgresql.lock must be installed"
)
DRIVERS = {"sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"}

ORIGIN = re.compile(r"\*|https?://([\w.-]+|\[[0-9a-fA-F:]+\])(:[0-9]+)?", re.ASCII)

Test = Callable[[Any], bool]


def setting(default: Any, kind: str, accepted: str, accepts: Test = lambda _: True) -> Any:
    """Return a field whose value is read from the variable of its name, in capitals.

    `kind` is what `environs` reads it as, `accepted` says in words what `accepts` tests.
    """
    metadata = {"kind": kind, "accepted": accepted, "accepts": accepts}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata, repr=kind != "database")


def _within(least: int, most: int) -> Callable[[int], bool]:
    return lambda number: least <= number <= most


def _is_duration(value: timedelta) -> bool:
    return timedelta(seconds=1) <= value <= timedelta(weeks=5200)


def _is_host(value: str) -> bool:
    try:
        return bool(value and getaddrinfo(value, None))
    except (OSError, UnicodeError):  # of a name that nobody knows, of one that cannot be asked for
        return False


def is_database(value: str) -> bool:
    """Return whether this is the address of a database of a kind that can be used."""
    try:
        url = make_url(value)
        if url.drivername not in DRIVERS:
            return False
        return create_engine(url).url.database not in {None, "", ":memory:"}
    except (ArgumentError, ImportError, ValueError):  # of the address, its driver, its options
        return False


def _is_url(value: str) -> bool:
    parts = urlsplit(value)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _is_rate(value: str) -> bool:
    try:
        return parse(value).amount > 0
    except ValueError:
        return False


_DURATION: Any = (
    "timedelta",
    "a time from 1s to 5200w, such as 90s, 15m, 12h, 30d or 4w",
    _is_duration,
)
_URL: Any = ("url", "an http or https URL", _is_url)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one server; the defaults are those of a server that is told nothing."""

    host: str = setting(
        "127.0.0.1",
        "str",
        "an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them",
        _is_host,
    )
    port: int = setting(8000, "int", "a number from 1 to 65535", _within(1, 65535))
    database_url: str = setting("sqlite:///laurels.sqlite3", "database", DATABASE, is_database)
    workers: int = setting(1, "int", "a number from 1 to 64", _within(1, 64))
    signups_open: bool = setting(True, "bool", "true or false")
    max_session_age: timedelta = setting(timedelta(days=30), *_DURATION)
    allowed_origins: list[str] = setting(
        [],
        "list",
        "websites such as https://a.example,https://b.example (no slash at the end), or *",
        lambda origins: all(map(ORIGIN.fullmatch, origins)),
    )
    community_name: str = setting(
        "Laurels",
        "str",
        "a name of 1 to 100 characters",
        lambda name: name.strip() and name.isprintable() and len(name) <= 100,
    )
    public_url: str | None = setting(
        None,
        "url",
        "an http or https URL without a path, such as https://laurels.example.org",
        lambda url: url is None or (_is_url(url) and urlsplit(url).path in {"", "/"}),
    )
    public_pages: bool = setting(True, "bool", "true or false")
    trusted_proxies: int = setting(0, "int", "a number from 0 to 10", _within(0, 10))
    log_level: str = setting(
        "INFO", "str", f"one of {', '.join(LOG_LEVELS)}", LOG_LEVELS.__contains__
    )
    callback_timeout: timedelta = setting(timedelta(seconds=5), *_DURATION)
    callback_retention: timedelta = setting(timedelta(days=3), *_DURATION)
    event_retention: timedelta = setting(timedelta(days=90), *_DURATION)
    discord_api_url: str = setting("https://discord.com/api/v10", *_URL)
    discord_cdn_url: str = setting("https://cdn.discordapp.com", *_URL)
    discord_client_id: int | None = setting(
        None,
        "int",
        "the id of an application, a number",
        lambda number: number is None or 0 < number < 2**63,
    )
    discord_rate_limit: str = setting(
        "20/minute", "str", "a number of requests and a time, such as 20/minute", _is_rate
    )

    @property
    def address(self) -> str:
        """Return the address to bind to, with brackets around an IPv6 one."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local_url(self) -> str:
        """Return the URL at which this machine reaches the server."""
        every = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - as a client, not to listen
        here = replace(self, host=every.get(self.host, self.host))
        return f"http://{here.address}"

    @classmethod
    def load(cls) -> Self:
        """Read the environment, then `.env` beside this file for what it leaves open.

        A bad value ends the program with one line that names the variable and what it accepts.
        """
        env = Env()
        env.read_env(ROOT / ".env", recurse=False)
        return cls(**{one.name: _read(env, one, getattr(cls(), one.name)) for one in fields(cls)})


def _read(env: Env, one: Field[Any], default: Any) -> Any:
    name, kind = one.name.upper(), one.metadata["kind"]
    read = getattr(env, {"database": "str", "url": "str"}.get(kind, kind))
    try:
        value = read(name, default)
        if kind == "list":
            value = [part for part in map(str.strip, value) if part]
        good = one.metadata["accepts"](value)
    except (ValueError, OverflowError):  # environs' own are ValueErrors
        good = False
    if not good:
        raise SystemExit(f"Bad configuration: {name} needs {one.metadata['accepted']}.")
    return value.rstrip("/") if kind == "url" and value else value


def misspelt() -> Iterator[tuple[str, str]]:
    """Yield each name in `.env` that is almost that of a setting, and that setting's."""
    names = [one.name.upper() for one in fields(Settings)]
    for name in dotenv_values(ROOT / ".env"):
        if name not in names and (close := get_close_matches(name.upper(), names, 1, 0.81)):
            yield name, close[0]


def settings() -> Settings:
    """Return the settings of the current app."""
    current: Settings = current_app.extensions["settings"]
    return current
