"""The tables."""

import hashlib
import hmac
import secrets
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, validates

from database import Base, Identifier, UTCDateTime, fold, now
from permissions import ACCOUNT_PERMISSIONS, APP_PERMISSIONS, Permission

Key = Annotated[int, mapped_column(Identifier, primary_key=True)]
Name = Annotated[str, mapped_column(String(255))]
Url = Annotated[str, mapped_column(String(2047))]
Created = Annotated[datetime, mapped_column(UTCDateTime, default=now)]


def _only(permissions: Permission) -> CheckConstraint:
    """Keep any other permission than these out of a table."""
    return CheckConstraint(f"permissions & ~{permissions:d} = 0", name="permissions")


def new_token() -> str:
    """Make a token: 256 random bits as text for URLs."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """Make the digest by which a token is kept."""
    return hashlib.sha256(token.encode()).digest()


def is_token(token: str, kept: bytes) -> bool:
    """Say whether a digest is that of a token, in a time that tells nothing about it."""
    return hmac.compare_digest(digest(token), kept)


class Searchable:
    """A name, and the same folded: what lists are ordered by and searched in."""

    name: Mapped[Name]
    search_name: Mapped[str] = mapped_column(Text)

    @validates("name")
    def _fold_name(self, _key: str, name: str) -> str:
        self.search_name = fold(name)
        return name

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[Index | CheckConstraint | dict[str, bool], ...]:
        return (Index(None, "search_name", "id"), {"sqlite_autoincrement": True})


class Credential:
    """A secret token, of which only the SHA-256 digest is kept."""

    token_digest: Mapped[bytes] = mapped_column(LargeBinary(32))

    def renew_token(self) -> str:
        """Set a new token and give it: there is no other time to see it."""
        token = new_token()
        self.token_digest = digest(token)
        return token


class Team(Searchable, Base):
    """A team."""

    __tablename__ = "teams"

    id: Mapped[Key]
    created_at: Mapped[Created]


class Account(Searchable, Base):
    """A member of the community; the id is that of their Discord account."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    discriminator: Mapped[str] = mapped_column(String(4))
    avatar_url: Mapped[Url | None]
    team_id: Mapped[int | None] = mapped_column(ForeignKey(Team.id, ondelete="SET NULL"))
    permissions: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[Created]

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[Index | CheckConstraint | dict[str, bool], ...]:
        return (
            Index(None, "search_name", "id"),
            Index(None, "team_id", "search_name", "id"),
            _only(ACCOUNT_PERMISSIONS),
        )


class Award(Base):
    """An award, given to accounts and to a team."""

    __tablename__ = "awards"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[Key]
    title: Mapped[Name]
    image_url: Mapped[Url]
    team_id: Mapped[int | None] = mapped_column(
        ForeignKey(Team.id, ondelete="SET NULL"), index=True
    )


class Awardee(Base):
    """That an account has an award."""

    __tablename__ = "awardees"
    __table_args__ = (Index(None, "award_id", "account_id"),)

    account_id: Mapped[int] = mapped_column(
        ForeignKey(Account.id, ondelete="CASCADE"), primary_key=True
    )
    award_id: Mapped[int] = mapped_column(
        ForeignKey(Award.id, ondelete="CASCADE"), primary_key=True
    )


class Session(Credential, Base):
    """A sign-in of an account, until it expires."""

    __tablename__ = "sessions"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[Key]
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id, ondelete="CASCADE"), index=True)
    created_at: Mapped[Created]
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)

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
    """What can happen that apps may be told of."""

    ACCOUNT_TEAM_UPDATE = "account_team_update"
    ACCOUNT_CREATE = "account_create"
    ACCOUNT_DELETE = "account_delete"
    TEAM_CREATE = "team_create"
    TEAM_UPDATE = "team_update"
    TEAM_DELETE = "team_delete"
    AWARD_GIVE = "award_give"
    AWARD_TAKE = "award_take"


class Event(Base):
    """That something happened: the log of who did what to whom, by ids and without names."""

    __tablename__ = "events"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[Key]
    type: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now, index=True)
    author: Mapped[str] = mapped_column(String(64))
    account_id: Mapped[int | None] = mapped_column(Identifier, index=True)
    team_id: Mapped[int | None] = mapped_column(Identifier, index=True)
    left_team_id: Mapped[int | None] = mapped_column(Identifier, index=True)
    award_id: Mapped[int | None] = mapped_column(Identifier)


class Callback(Base):
    """Where an app wants to be told of one type of event, and how its receiver does.

    `lease` names who sends its deliveries at present, until `leased_until`; `resting_until` is the
    end of the pause after the receiver could not be reached `failures` times in a row.
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
    resting_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_error: Mapped[str | None] = mapped_column(Text)
    lease: Mapped[str | None] = mapped_column(String(255))
    leased_until: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Delivery(Base):
    """What a callback is still to be sent; it is deleted once the receiver took it.

    `subject` is the account or team that it is about: deliveries of a callback about the same one
    keep their order. `retry_at` is the end of the pause after `attempts` refusals.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(None, "callback_id", "subject", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[Key]
    callback_id: Mapped[int] = mapped_column(
        ForeignKey(Callback.id, ondelete="CASCADE"), index=True
    )
    subject: Mapped[int] = mapped_column(Identifier)
    webhook_id: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now, index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    attempted_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    retry_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_error: Mapped[str | None] = mapped_column(Text)
