"""Credentials: sessions of accounts, tokens, and who one is."""

from typing import Any

from flask import Response, jsonify

import reading
from api import Blueprint, found
from authentication import principal
from config import settings
from database import db, now
from models import App, Session
from permissions import Action
from reading import Record
from schemas import AccountSchema, AppSchema, NewSession, SessionSchema

blp = Blueprint("auth", __name__, description="Credentials, and who one is")


@blp.route("/auth/create_session", methods=["POST"])
@blp.arguments(NewSession)
@blp.response(201, SessionSchema)
@blp.requires(Action.CREATE_SESSION)
def create_session(body: dict[str, Any]) -> Record:
    """Sign an account in.

    The password is shown this once; the session expires 30 days later, or when the host says.
    """
    session = Session(account_id=body["account"].id)
    credentials = renew_session(session)
    db.session.add(session)
    db.session.flush()
    return credentials | {"username": session.username}


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
    renewed = renew_session(credential) | {"username": credential.username}
    return jsonify(SessionSchema().dump(renewed))


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


def renew_session(session: Session) -> Record:
    """Give a session a new token and its full time, and say which."""
    session.expires_at = now() + settings().max_session_age
    return {"password": session.renew_token(), "expires_at": session.expires_at}


def app_record(app: App) -> Record:
    """Say what an app is, without its token."""
    return {"name": app.name, "permissions": app.permissions, "username": app.username}
