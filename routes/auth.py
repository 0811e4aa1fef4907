"""Authentication: sessions, tokens, and the caller."""

from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from werkzeug.exceptions import Forbidden

import queries
from api.endpoints import Blueprint
from authentication import principal
from callbacks.events import FORGET_AT_ONCE, record
from config import settings
from database import Statement
from integrations.discord import BAD_TOKEN, TOO_OFTEN, UNREACHABLE, DiscordUser
from models import App, LogType, Session, digest, new_token, now
from permissions import Action, Principal
from queries import JSON, SESSION
from routes.accounts import SIGNUPS_CLOSED, insert_account
from schemas import (
    AccountSchema,
    AppSchema,
    AppWithPasswordSchema,
    DiscordLogin,
    NewSession,
    SessionSchema,
)

_TIMES: dict[str, Any] = {"token_digest": bindparam("digest"), "expires_at": bindparam("until")}
_START = Statement(
    insert(Session)
    .values(account_id=bindparam("account"), created_at=bindparam("created"), **_TIMES)
    .returning(SESSION)
)
_FORGET = Statement(
    delete(Session).where(
        Session.id.in_(
            select(Session.id)
            .where(Session.expires_at <= bindparam("moment"))
            .limit(FORGET_AT_ONCE)
        )
    )
)
_RENEW = Statement(
    update(Session).where(Session.id == bindparam("id")).values(**_TIMES).returning(SESSION)
)
_RESET = Statement(
    update(App).where(App.id == bindparam("id")).values(token_digest=bindparam("digest"))
)

blp = Blueprint("auth", __name__, "Authentication: sessions, tokens, and the caller")


@blp.post(
    "/auth/discord",
    body=DiscordLogin,
    returns={200: SessionSchema},
    discord="token",
    errors={401: BAD_TOKEN, 403: SIGNUPS_CLOSED, 429: TOO_OFTEN, 502: UNREACHABLE},
)
def log_in(discord_user: DiscordUser, **_: Any) -> JSON | None:
    """Sign a member in with their token from Discord.

    Creates their account if it is new and signups are open. The token is neither stored nor logged.
    """
    if queries.account(discord_user.id) is None:
        if not settings().signups_open:
            raise Forbidden(SIGNUPS_CLOSED)
        insert_account(author=f"account {discord_user.id}", **vars(discord_user))
    return _start_session(discord_user.id)


@blp.post(
    "/auth/create_session",
    body=NewSession,
    returns={201: SessionSchema},
    needs=Action.CREATE_SESSION,
)
def create_session(body: dict[str, Any]) -> JSON | None:
    """Create a session for an account.

    The password is shown only once; the session expires after 30 days, or as the host set.
    """
    return _start_session(body["account"])


@blp.post(
    "/auth/reset_token",
    returns={200: (AppWithPasswordSchema, SessionSchema)},
    needs=Action.USE_CREDENTIALS,
)
def reset_token() -> JSON | dict[str, Any]:
    """Replace the token that this request uses.

    The old one stops working at once, the new one is shown only once, and a session's time starts
    again.
    """
    caller, token = principal(), new_token()
    record(LogType.TOKEN_RESET, [caller.app_id], account_id=caller.account_id)
    if caller.app_id is None:
        renewed: JSON = _RENEW.value(id=caller.session_id, **_credentials(token))
        return renewed
    _RESET.run(id=caller.app_id, digest=digest(token))
    return _app(caller) | {"password": token}


@blp.get("/auth/me", returns={200: (AppSchema, AccountSchema)}, needs=Action.USE_CREDENTIALS)
def view_self() -> JSON | dict[str, Any] | None:
    """View the app or account that this request's credentials belong to."""
    caller = principal()
    return _app(caller) if caller.account_id is None else queries.account(caller.account_id)


def _app(caller: Principal) -> dict[str, Any]:
    permissions, username = int(caller.permissions), f"A{caller.app_id}"
    return {"name": caller.app_name, "permissions": permissions, "username": username}


def _start_session(account: int) -> JSON | None:
    """Start a session, and forget some that have expired."""
    _FORGET.run(moment=now())
    started: JSON = _START.value(account=account, created=now(), **_credentials(new_token()))
    return started


def _credentials(token: str) -> dict[str, Any]:
    until = now() + settings().max_session_age.total_seconds()
    return {"password": token, "digest": digest(token), "until": until}
