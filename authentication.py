"""Who is asking: HTTP Basic credentials to one `Principal`."""

import re
from dataclasses import dataclass

from flask import g, request
from sqlalchemy import bindparam, select
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from database import MAX_ID, connection, now
from models import Account, App, Session, is_token
from permissions import Action, Caller, Permission, Target, may, needs

USERNAME = re.compile("([AaSs])([1-9][0-9]{0,18})")
CHALLENGE = WWWAuthenticate("basic", {"realm": "Laurels API"})


_APP = select(App.id, App.name, App.permissions, App.token_digest).where(App.id == bindparam("id"))
_SESSION = (
    select(
        Session.id,
        Session.account_id,
        Session.token_digest,
        Session.expires_at,
        Account.permissions,
        Account.team_id,
    )
    .join(Account, Account.id == Session.account_id)
    .where(Session.id == bindparam("id"))
)


@dataclass(frozen=True, kw_only=True)
class Principal(Caller):
    """An authenticated caller: an app, by its id and name, or a session of an account."""

    app_id: int | None = None
    app_name: str = ""
    session_id: int | None = None

    @property
    def label(self) -> str:
        """Who this is in the log of events: an id, no name."""
        if self.account_id is None:
            return f"app {self.app_id}"
        return f"account {self.account_id}"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a request offers to prove who is asking."""

    is_app: bool
    id: int
    token: str


def unauthorized() -> Unauthorized:
    """Make the error for absent or bad credentials, which never tells what is bad about them."""
    return Unauthorized(
        "This needs the username and token of an app (A...) or of a session that has not expired "
        "(S...), by HTTP Basic authentication.",
        www_authenticate=CHALLENGE,
    )


def has_credentials() -> bool:
    """Say whether the request offers credentials, of whatever kind."""
    return "Authorization" in request.headers


def read_credentials() -> Credentials:
    """Read the request's credentials, without asking the database.

    Raises `Unauthorized` where there are none or they cannot be any.
    """
    try:
        offered = request.authorization
    except ValueError:  # characters over 127, which Werkzeug does not expect
        offered = None
    match = USERNAME.fullmatch((offered and offered.username) or "")
    if not offered or offered.type != "basic" or not match or int(match[2]) > MAX_ID:
        raise unauthorized()
    return Credentials(is_app=match[1] in "Aa", id=int(match[2]), token=str(offered.password))


def authenticate(credentials: Credentials) -> None:
    """Find out whose credentials these are, and remember it for this request.

    Raises `Unauthorized` if they are nobody's, or expired.
    """
    statement = _APP if credentials.is_app else _SESSION
    row = connection().execute(statement, {"id": credentials.id}).first()
    if row is None or not is_token(credentials.token, row.token_digest):
        raise unauthorized()
    if credentials.is_app:
        g.principal = Principal(
            permissions=Permission(row.permissions), app_id=row.id, app_name=row.name
        )
    elif row.expires_at <= now():
        raise unauthorized()
    else:
        g.principal = Principal(
            permissions=Permission(row.permissions),
            account_id=row.account_id,
            team_id=row.team_id,
            session_id=row.id,
        )
    request.environ["REMOTE_USER"] = g.principal.label


def principal() -> Principal:
    """Give the caller of the present request."""
    caller: Principal = g.principal
    return caller


def permit(action: Action, target: Target) -> None:
    """Raise `Forbidden` unless a rule allows the caller of the present request this action."""
    if not may(principal(), action, target):
        raise Forbidden(f"This needs {needs(action)}.")
