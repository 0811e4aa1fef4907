"""Credentials: sessions of accounts, tokens, and who one is."""

from dataclasses import asdict
from typing import Any

from flask import Response, jsonify
from sqlalchemy import insert
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

import queries
from api.endpoints import Blueprint
from authentication import Principal, principal
from callbacks.events import record_accounts
from config import settings
from database import connection, db, now
from dumping import dumper
from integrations.discord import (
    BAD_TOKEN,
    TOO_OFTEN,
    UNREACHABLE,
    BadTokenError,
    DiscordUser,
    identify,
)
from models import Account, App, EventType, Session, digest, new_token
from permissions import Action
from queries import Record
from schemas import (
    AccountSchema,
    AppSchema,
    AppWithPasswordSchema,
    DiscordLogin,
    NewSession,
    SessionSchema,
)

blp = Blueprint("auth", __name__, description="Credentials, and who one is")

_dump_app, _dump_account = dumper(AppSchema()), dumper(AccountSchema())
_dump_session, _dump_new_app = dumper(SessionSchema()), dumper(AppWithPasswordSchema())
_START = insert(Session).returning(Session.id)


def ask_discord(body: dict[str, Any]) -> None:
    """Put the Discord user that a token belongs to in the place of the token."""
    try:
        body["user"] = identify(body.pop("token"))
    except BadTokenError:
        raise Unauthorized(
            BAD_TOKEN,
            www_authenticate=WWWAuthenticate("bearer", {"error": "invalid_token"}),
        ) from None


@blp.route("/auth/discord", methods=["POST"])
@blp.arguments(DiscordLogin)
@blp.response(200, SessionSchema)
@blp.error(401, BAD_TOKEN)
@blp.error(403, "Signups are closed.")
@blp.error(429, TOO_OFTEN)
@blp.error(502, UNREACHABLE)
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
    return start_session(body["account"])


@blp.route("/auth/reset_token", methods=["POST"])
@blp.response(200, {"oneOf": [AppWithPasswordSchema, SessionSchema]})
@blp.requires()
def reset_token() -> Response:
    """Replace the token that this request uses.

    The old one is dead at once, the new one is shown this once, and a session's time starts anew.
    """
    caller = principal()
    if caller.session_id is not None:
        session = db.session.get_one(Session, caller.session_id)
        return jsonify(_dump_session(renew_session(session)))
    password = db.session.get_one(App, caller.app_id).renew_token()
    return jsonify(_dump_new_app(app_record(caller) | {"password": password}))


@blp.route("/auth/me")
@blp.response(200, {"oneOf": [AppSchema, AccountSchema]})
@blp.requires()
def view_self() -> Response:
    """View the app, or the account, that this request's credentials belong to."""
    caller = principal()
    if caller.account_id is None:
        return jsonify(_dump_app(app_record(caller)))
    return jsonify(_dump_account(queries.account(caller.account_id)))


def start_session(account_id: int) -> Record:
    """Sign an account in, and give the credentials."""
    token, expires_at = new_token(), now() + settings().max_session_age
    values = {
        "account_id": account_id,
        "token_digest": digest(token),
        "created_at": now(),
        "expires_at": expires_at,
    }
    session_id = connection().scalar(_START, values)
    return {"username": f"S{session_id}", "password": token, "expires_at": expires_at}


def renew_session(session: Session) -> Record:
    """Give a session a new token and its full time, and say which."""
    password = session.renew_token()
    session.expires_at = now() + settings().max_session_age
    return {
        "username": session.username,
        "password": password,
        "expires_at": session.expires_at,
    }


def app_record(app: Principal) -> Record:
    """Say what the calling app is, without its token."""
    return {
        "name": app.app_name,
        "permissions": app.permissions,
        "username": f"A{app.app_id}",
    }
