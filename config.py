"""Every setting, read from the environment (or `.env`) and checked once."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import urlsplit

from environs import Env, EnvError
from flask import current_app
from limits import parse
from sqlalchemy import create_engine
from sqlalchemy.exc import ArgumentError

VERSION = "1.0.0"
ROOT = Path(__file__).parent
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
DURATION = "a time from 1s to 5200w, such as 90s, 15m, 12h, 30d or 4w"

ORIGIN = re.compile(r"\*|https?://([\w.-]+|\[[0-9a-fA-F:]+\])(:[0-9]+)?", re.ASCII)

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one server; the defaults are those of a server that is told nothing."""

    host: str = "127.0.0.1"
    port: int = 8000
    database_url: str = field(default="sqlite:///laurels.sqlite3", repr=False)
    signups_open: bool = True
    max_session_age: timedelta = timedelta(days=30)
    allowed_origins: list[str] = field(default_factory=list)
    trusted_proxies: int = 0
    log_level: str = "INFO"
    callback_timeout: timedelta = timedelta(seconds=5)
    callback_retention: timedelta = timedelta(days=3)
    event_retention: timedelta = timedelta(days=90)
    discord_api_url: str = "https://discord.com/api/v10"
    discord_cdn_url: str = "https://cdn.discordapp.com"
    discord_client_id: int | None = None
    discord_rate_limit: str = "20/minute"

    @classmethod
    def load(cls) -> Self:
        """Read the environment, then `.env` beside this file for what it leaves open.

        A bad value ends the program with one line that names the variable and what it accepts.
        """
        env = Env()
        env.read_env(ROOT / ".env", recurse=False)

        def duration(name: str, default: timedelta) -> timedelta:
            return _read(env.timedelta, name, default, DURATION, _is_duration)

        def url(name: str, default: str) -> str:
            return _read(env.str, name, default, "an http or https URL", _is_url).rstrip("/")

        return cls(
            host=_read(env.str, "HOST", cls.host, "an address to listen at", bool),
            port=_read(env.int, "PORT", cls.port, "a number from 1 to 65535", _within(1, 65535)),
            database_url=_read(
                env.str,
                "DATABASE_URL",
                cls.database_url,
                "the address of a database whose driver is installed, such as "
                "sqlite:////srv/laurels/laurels.sqlite3",
                _is_database,
            ),
            signups_open=_read(env.bool, "SIGNUPS_OPEN", cls.signups_open, "true or false"),
            max_session_age=duration("MAX_SESSION_AGE", cls.max_session_age),
            allowed_origins=_read(
                lambda name, default: list(filter(None, map(str.strip, env.list(name, default)))),
                "ALLOWED_ORIGINS",
                [],
                "web sites such as https://a.example,https://b.example (no slash at the end), or *",
                lambda origins: all(map(ORIGIN.fullmatch, origins)),
            ),
            trusted_proxies=_read(
                env.int,
                "TRUSTED_PROXIES",
                cls.trusted_proxies,
                "a number from 0 to 10",
                _within(0, 10),
            ),
            log_level=_read(
                env.str,
                "LOG_LEVEL",
                cls.log_level,
                f"one of {', '.join(LOG_LEVELS)}",
                LOG_LEVELS.__contains__,
            ),
            callback_timeout=duration("CALLBACK_TIMEOUT", cls.callback_timeout),
            callback_retention=duration("CALLBACK_RETENTION", cls.callback_retention),
            event_retention=duration("EVENT_RETENTION", cls.event_retention),
            discord_api_url=url("DISCORD_API_URL", cls.discord_api_url),
            discord_cdn_url=url("DISCORD_CDN_URL", cls.discord_cdn_url),
            discord_client_id=_read(
                env.int,
                "DISCORD_CLIENT_ID",
                cls.discord_client_id,
                "the id of an application, a number",
                lambda number: number is None or 0 < number < 2**63,
            ),
            discord_rate_limit=_read(
                env.str,
                "DISCORD_RATE_LIMIT",
                cls.discord_rate_limit,
                "a number of requests and a time, such as 20/minute",
                _is_rate,
            ),
        )


def _read(
    read: Callable[..., Value],
    name: str,
    default: Value,
    needs: str,
    accepts: Callable[[Value], bool] = lambda _: True,
) -> Value:
    try:
        value = read(name, default)
        good = accepts(value)
    except (EnvError, OverflowError):
        good = False
    if not good:
        raise SystemExit(f"Bad configuration: {name} needs {needs}.")
    return value


def _within(least: int, most: int) -> Callable[[int], bool]:
    return lambda number: least <= number <= most


def _is_duration(value: timedelta) -> bool:
    return timedelta(seconds=1) <= value <= timedelta(weeks=5200)


def _is_database(value: str) -> bool:
    try:
        return create_engine(value).url.database not in {None, "", ":memory:"}
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


def settings() -> Settings:
    """Give the settings of the app that is running."""
    current: Settings = current_app.extensions["settings"]
    return current
