"""The tables."""

import hashlib
import hmac
import secrets
import time
import unicodedata
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, validates

from database import Base
from permissions import ACCOUNT_PERMISSIONS, APP_PERMISSIONS, Permission

MAX_ID = 2**63 - 1
Identifier = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit id; SQLite numbers rows by itself only in a column called INTEGER."""

Folded = Text().with_variant(Text(collation="C"), "postgresql")
"""Folded text, ordered by its bytes, as SQLite always does."""


def now() -> float:
    """Return the current time, in seconds since the UNIX epoch, to the microsecond."""
    return round(time.time(), 6)


def utc(seconds: float) -> datetime:
    """Return a time as text for people."""
    return datetime.fromtimestamp(seconds, UTC)


def fold(text: str) -> str:
    """Return text for comparing without regard to case, for all of Unicode (NFKC, case folding)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


Key = Annotated[int, mapped_column(Identifier, primary_key=True)]
Name = Annotated[str, mapped_column(String(255))]
Url = Annotated[str, mapped_column(String(2047))]
Time = Annotated[float, mapped_column(Double)]
Created = Annotated[float, mapped_column(Double, default=now)]


def _only(permissions: Permission) -> CheckConstraint:
    """Return the constraint that a table has no other permissions than these."""
    return CheckConstraint(f"permissions & ~{permissions:d} = 0", name="permissions")


def new_token() -> str:
    """Return a new token: 256 random bits as text for URLs."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """Return the digest of a token, which is stored instead of it."""
    return hashlib.sha256(token.encode()).digest()


def is_token(token: str, kept: bytes) -> bool:
    """Return whether a digest is a token's, in a time that reveals nothing about it."""
    return hmac.compare_digest(digest(token), kept)


class Searchable:
    """A name, and the same folded, by which lists are ordered and searched."""

    name: Mapped[Name]
    search_name: Mapped[str] = mapped_column(Folded)

    @validates("name")
    def _fold_name(self, _key: str, name: str) -> str:
        self.search_name = fold(name)
        return name


class Credential:
    """A secret token, of which only the SHA-256 digest is kept."""

    token_digest: Mapped[bytes] = mapped_column(LargeBinary(32))

    def renew_token(self) -> str:
        """Set a new token and return it: it cannot be read again."""
        token = new_token()
        self.token_digest = digest(token)
        return token


class Team(Searchable, Base):
    """A team.

    `member_count`, and `points` and `award_count` of its awards, are kept up to date by triggers of
    the database (see migrations 0003 and 0004): counting would take most of a read's time.
    """

    __tablename__ = "teams"
    __table_args__ = (Index(None, "search_name", "id"), {"sqlite_autoincrement": True})

    id: Mapped[Key]
    created_at: Mapped[Created]
    member_count: Mapped[int] = mapped_column(server_default="0")
    points: Mapped[int] = mapped_column(server_default="0")
    award_count: Mapped[int] = mapped_column(server_default="0")


Index("ix_teams_points_search_name_id", Team.points.desc(), Team.search_name, Team.id)


class Account(Searchable, Base):
    """A member of the community; the id is that of their Discord account."""

    __tablename__ = "accounts"
    __table_args__ = (
        Index(None, "search_name", "id"),
        Index(None, "team_id", "search_name", "id"),
        _only(ACCOUNT_PERMISSIONS),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    discriminator: Mapped[str] = mapped_column(String(4))
    avatar_url: Mapped[Url | None]
    team_id: Mapped[int | None] = mapped_column(ForeignKey(Team.id, ondelete="SET NULL"))
    permissions: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[Created] = mapped_column(index=True)


class Award(Base):
    """An award, given to accounts and to a team, to which it is worth `points`.

    `holder_count` is kept up to date by triggers of the database (see migration 0004). `created_at`
    is None for an award from before such times were kept.
    """

    __tablename__ = "awards"
    __table_args__ = (Index(None, "search_title", "id"), {"sqlite_autoincrement": True})

    id: Mapped[Key]
    title: Mapped[Name]
    search_title: Mapped[str] = mapped_column(Folded)
    image_url: Mapped[Url]
    team_id: Mapped[int | None] = mapped_column(
        ForeignKey(Team.id, ondelete="SET NULL"), index=True
    )
    points: Mapped[int] = mapped_column(default=1, server_default="1")
    created_at: Mapped[Time | None] = mapped_column(default=now, index=True)
    holder_count: Mapped[int] = mapped_column(server_default="0")

    @validates("title")
    def _fold_title(self, _key: str, title: str) -> str:
        self.search_title = fold(title)
        return title


class Awardee(Base):
    """An award held by an account, since `given_at`, or None if that is not known."""

    __tablename__ = "awardees"
    __table_args__ = (Index(None, "award_id", "account_id"),)

    account_id: Mapped[int] = mapped_column(
        ForeignKey(Account.id, ondelete="CASCADE"), primary_key=True
    )
    award_id: Mapped[int] = mapped_column(
        ForeignKey(Award.id, ondelete="CASCADE"), primary_key=True
    )
    given_at: Mapped[Time | None] = mapped_column(default=now, index=True)


class Session(Credential, Base):
    """A sign-in of an account, until it expires."""

    __tablename__ = "sessions"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[Key]
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id, ondelete="CASCADE"), index=True)
    created_at: Mapped[Created]
    expires_at: Mapped[Time] = mapped_column(index=True)

    @property
    def username(self) -> str:
        """The username that goes with the token in HTTP Basic authentication."""
        return f"S{self.id}"


class App(Credential, Base):
    """A program that uses the API in its own name."""

    __tablename__ = "apps"
    __table_args__ = (_only(APP_PERMISSIONS), {"sqlite_autoincrement": True})

    id: Mapped[Key]
    name: Mapped[Name] = mapped_column(unique=True)
    permissions: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[Created]

    @property
    def username(self) -> str:
        """The username that goes with the token in HTTP Basic authentication."""
        return f"A{self.id}"


class EventType(StrEnum):
    """The types of events that apps can be told about, each with the parts of its body.

    The first part is what the event is about.
    """

    body: tuple[str, ...]

    ACCOUNT_TEAM_UPDATE = "account_team_update", "account", "team"
    ACCOUNT_CREATE = "account_create", "account"
    ACCOUNT_UPDATE = "account_update", "account", "changed"
    ACCOUNT_DELETE = "account_delete", "account"
    TEAM_CREATE = "team_create", "team"
    TEAM_UPDATE = "team_update", "team"
    TEAM_DELETE = "team_delete", "team"
    AWARD_CREATE = "award_create", "award"
    AWARD_UPDATE = "award_update", "award", "changed"
    AWARD_DELETE = "award_delete", "award"
    AWARD_GIVE = "award_give", "account", "award"
    AWARD_TAKE = "award_take", "account", "award"

    def __new__(cls, name: str, *body: str) -> Self:
        """Make a member."""
        member = str.__new__(cls, name)
        member._value_, member.body = name, body
        return member

    @property
    def subject(self) -> str:
        """The kind of thing it is about: an account, a team or an award."""
        return self.body[0]


class LogType(StrEnum):
    """The types of events that are only in the log, each with the kind of thing it is about."""

    subject: str

    APP_CREATE = "app_create", "app"
    APP_UPDATE = "app_update", "app"
    APP_DELETE = "app_delete", "app"
    TOKEN_RESET = "token_reset", "app"
    CALLBACK_REGISTER = "callback_register", "app"
    CALLBACK_DELETE = "callback_delete", "app"
    SESSIONS_REVOKE = "sessions_revoke", "account"

    def __new__(cls, name: str, subject: str) -> Self:
        """Make a member."""
        member = str.__new__(cls, name)
        member._value_, member.subject = name, subject
        return member


class Event(Base):
    """Something that happened: the log of who did what to whom, by ids and without names.

    `changed` is a JSON list of attributes; for an app's callbacks, of types of events.
    `granted` and `revoked` are permissions.
    """

    __tablename__ = "events"
    __table_args__ = (
        *(
            Index(None, column, "id")
            for column in ("type", "account_id", "team_id", "left_team_id", "award_id")
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[Key]
    type: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[Created] = mapped_column(index=True)
    author: Mapped[str] = mapped_column(String(64))
    account_id: Mapped[int | None] = mapped_column(Identifier)
    team_id: Mapped[int | None] = mapped_column(Identifier)
    left_team_id: Mapped[int | None] = mapped_column(Identifier)
    award_id: Mapped[int | None] = mapped_column(Identifier)
    app_id: Mapped[int | None] = mapped_column(Identifier)
    changed: Mapped[str | None] = mapped_column(Text)
    granted: Mapped[int] = mapped_column(server_default="0")
    revoked: Mapped[int] = mapped_column(server_default="0")


class Callback(Base):
    """The URL at which an app is told about one type of event, and the state of its receiver.

    `lease` names the process that is sending its deliveries, until `leased_until`, which stays: the
    callback with the earliest has the next turn. `resting_until` is the end of the pause after the
    receiver could not be reached `failures` times in a row.
    """

    __tablename__ = "callbacks"
    __table_args__ = (UniqueConstraint("app_id", "event"), {"sqlite_autoincrement": True})

    id: Mapped[Key]
    app_id: Mapped[int] = mapped_column(ForeignKey(App.id, ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(32), index=True)
    url: Mapped[Url]
    secret: Mapped[str] = mapped_column(String(2047))
    registered_at: Mapped[Created]
    failures: Mapped[int] = mapped_column(default=0)
    resting_until: Mapped[Time | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    lease: Mapped[str | None] = mapped_column(String(255))
    leased_until: Mapped[Time | None]


class Delivery(Base):
    """A message still to be sent to a callback; it is deleted once the receiver has accepted it.

    `subject` is the account or team that it is about: deliveries of a callback about the same one
    keep their order, so `due_at` is None behind an earlier delivery. Otherwise it is 0 (at once),
    or the end of the pause after `attempts` refusals.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(None, "callback_id", "subject", "id"),
        Index(None, "callback_id", "due_at", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[Key]
    callback_id: Mapped[int] = mapped_column(ForeignKey(Callback.id, ondelete="CASCADE"))
    subject: Mapped[int] = mapped_column(Identifier)
    webhook_id: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Created] = mapped_column(index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    attempted_at: Mapped[Time | None]
    due_at: Mapped[Time | None] = mapped_column(default=0)
    last_error: Mapped[str | None] = mapped_column(Text)
