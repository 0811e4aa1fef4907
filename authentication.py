"""Authentication: from HTTP Basic credentials to one `Principal`."""

import re

from flask import g, request
from sqlalchemy import bindparam, select
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from database import Statement
from models import MAX_ID, Account, App, Session, is_token, now
from permissions import Permission, Principal

USERNAME = re.compile("([AaSs])([1-9][0-9]{0,18})")
CHALLENGE = WWWAuthenticate("basic", {"realm": "Laurels API"})

_APP = Statement(
    select(App.id, App.name, App.permissions, App.token_digest).where(App.id == bindparam("id"))
)
_SESSION = Statement(
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


def unauthorized() -> Unauthorized:
    """Return the error for missing or bad credentials; it never says what is wrong with them."""
    return Unauthorized(
        "This needs the username and token of an app (A...) or of a session that has not expired "
        "(S...), by HTTP Basic authentication.",
        www_authenticate=CHALLENGE,
    )


def has_credentials() -> bool:
    """Return whether the request carries credentials, good or bad."""
    return "Authorization" in request.headers


def authenticate() -> Principal:
    """Return the caller whose credentials the request carries, and remember them for this request.

    Raises `Unauthorized` if there are no credentials, or they are wrong or expired.
    """
    try:
        offered = request.authorization
    except ValueError:  # characters beyond ASCII, which Werkzeug does not expect
        offered = None
    match = USERNAME.fullmatch((offered and offered.username) or "")
    if not offered or offered.type != "basic" or not match or int(match[2]) > MAX_ID:
        raise unauthorized()
    caller = (_app if match[1] in "Aa" else _member)(int(match[2]), str(offered.password))
    g.principal = caller
    request.environ["REMOTE_USER"] = caller.label
    return caller


def principal() -> Principal:
    """Return the caller of the current request."""
    caller: Principal = g.principal
    return caller


def _app(app_id: int, token: str) -> Principal:
    app = _APP.first(id=app_id)
    if app is None or not is_token(token, app.token_digest):
        raise unauthorized()
    return Principal(permissions=Permission(app.permissions), app_id=app.id, app_name=app.name)


def _member(session_id: int, token: str) -> Principal:
    session = _SESSION.first(id=session_id)
    if session is None or not is_token(token, session.token_digest) or session.expires_at <= now():
        raise unauthorized()
    return Principal(
        permissions=Permission(session.permissions),
        account_id=session.account_id,
        team_id=session.team_id,
        session_id=session.id,
    )
