"""Credentials: sessions of accounts, tokens, and who one is."""

from dataclasses import asdict
from typing import Any

from flask import Response, jsonify
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

import reading
from api import Blueprint, found
from authentication import principal
from config import settings
from database import db, now
from discord_api import BadTokenError, DiscordUser, identify
from events import record_accounts
from models import Account, App, EventType, Session
from permissions import Action
from reading import Record
from schemas import (
    AccountSchema,
    AppSchema,
    DiscordLogin,
    ErrorSchema,
    NewSession,
    SessionSchema,
)

blp = Blueprint("auth", __name__, description="Credentials, and who one is")


def ask_discord(body: dict[str, Any]) -> None:
    """Put the Discord user that a token belongs to in the place of the token."""
    try:
        body["user"] = identify(body.pop("token"))
    except BadTokenError:
        raise Unauthorized(
            "This is not a Discord token with the scope `identify`.",
            www_authenticate=WWWAuthenticate("bearer", {"error": "invalid_token"}),
        ) from None


@blp.route("/auth/discord", methods=["POST"])
@blp.arguments(DiscordLogin)
@blp.response(200, SessionSchema)
@blp.alt_response(401, schema=ErrorSchema, description="The token is bad, or lacks `identify`")
@blp.alt_response(403, schema=ErrorSchema, description="The account is new and signups are closed")
@blp.prepares(ask_discord)
def log_in(body: dict[str, Any]) -> Record:
    """Sign a member in with the token that Discord gave for them.

    Creates their account if it is new and signups are open. The token is neither stored nor logged.
    """
    user: DiscordUser = body["user"]
    if db.session.get(Account, user.id) is None:
        if not settings().signups_open:
            raise Forbidden("Signups are closed.")
        db.session.add(Account(**asdict(user)))
        db.session.flush()
        author = f"account {user.id}"
        record_accounts(EventType.ACCOUNT_CREATE, [user.id], author=author)
    return start_session(user.id)


@blp.route("/auth/create_session", methods=["POST"])
@blp.arguments(NewSession)
@blp.response(201, SessionSchema)
@blp.requires(Action.CREATE_SESSION)
def create_session(body: dict[str, Any]) -> Record:
    """Sign an account in.

    The password is shown this once; the session expires 30 days later, or when the host says.
    """
    return start_session(body["account"].id)


@blp.route("/auth/reset_token", methods=["POST"])
@blp.response(200, {"oneOf": [AppSchema, SessionSchema]})
@blp.requires()
def reset_token() -> Response:
    """Replace the token that this request uses.

    The old one is dead at once, the new one is shown this once, and a session's time starts anew.
    """
    credential = principal().credential
    if isinstance(credential, App):
        password = credential.renew_token()
        return jsonify(AppSchema().dump(app_record(credential) | {"password": password}))
    return jsonify(SessionSchema().dump(renew_session(credential)))


@blp.route("/auth/me")
@blp.response(200, {"oneOf": [AppSchema, AccountSchema]})
@blp.requires()
def view_self() -> Response:
    """View the app, or the account, that this request's credentials belong to."""
    caller = principal()
    if isinstance(caller.credential, App):
        return jsonify(AppSchema().dump(app_record(caller.credential)))
    account = found(reading.account(caller.credential.account_id), "account")
    return jsonify(AccountSchema().dump(account))


def start_session(account_id: int) -> Record:
    """Sign an account in, and give the credentials."""
    session = Session(account_id=account_id)
    db.session.add(session)
    return renew_session(session)


def renew_session(session: Session) -> Record:
    """Give a session a new token and its full time, and say which."""
    password = session.renew_token()
    session.expires_at = now() + settings().max_session_age
    db.session.flush()
    return {
        "username": session.username,
        "password": password,
        "expires_at": session.expires_at,
    }


def app_record(app: App) -> Record:
    """Say what an app is, without its token."""
    return {"name": app.name, "permissions": app.permissions, "username": app.username}
