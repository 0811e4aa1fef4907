"""Who is asking: HTTP Basic credentials to one `Principal`."""

import re
from dataclasses import dataclass

from flask import g, request
from sqlalchemy import select
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from database import MAX_ID, db, now
from models import Account, App, Session
from permissions import Action, Caller, Permission, Target, may, needs

USERNAME = re.compile("([AaSs])([1-9][0-9]{0,18})")
CHALLENGE = WWWAuthenticate("basic", {"realm": "Laurels API"})


@dataclass(frozen=True, kw_only=True)
class Principal(Caller):
    """An authenticated caller, and the app or session whose token was used."""

    credential: App | Session

    @property
    def label(self) -> str:
        """Who this is in the log of events: an id, no name."""
        if self.account_id is None:
            return f"app {self.credential.id}"
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
    offered = request.authorization
    match = USERNAME.fullmatch((offered and offered.username) or "")
    if not offered or not match or int(match[2]) > MAX_ID:
        raise unauthorized()
    return Credentials(is_app=match[1] in "Aa", id=int(match[2]), token=str(offered.password))


def authenticate(credentials: Credentials) -> Principal:
    """Find whose credentials these are, and remember it for this request."""
    g.principal = principal = (_app if credentials.is_app else _session)(credentials)
    return principal


def _app(credentials: Credentials) -> Principal:
    app = db.session.get(App, credentials.id)
    if app is None or not app.has_token(credentials.token):
        raise unauthorized()
    return Principal(permissions=Permission(app.permissions), credential=app)


def _session(credentials: Credentials) -> Principal:
    row = db.session.execute(
        select(Session, Account.permissions, Account.team_id)
        .join(Account, Account.id == Session.account_id)
        .where(Session.id == credentials.id)
    ).first()
    if row is None or not row.Session.has_token(credentials.token):
        raise unauthorized()
    if row.Session.expires_at <= now():
        raise unauthorized()
    return Principal(
        permissions=Permission(row.permissions),
        account_id=row.Session.account_id,
        team_id=row.team_id,
        credential=row.Session,
    )


def principal() -> Principal:
    """Give the caller of the present request."""
    caller: Principal = g.principal
    return caller


def permit(action: Action, target: Target) -> None:
    """Raise `Forbidden` unless a rule allows the caller of the present request this action."""
    if not may(principal(), action, target):
        raise Forbidden(f"This needs {needs(action)}.")
