"""Accounts: the members of the community."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from werkzeug.exceptions import Conflict, Forbidden

import queries
from api.endpoints import Blueprint, permit
from authentication import has_credentials, principal
from callbacks.events import ACCOUNT_ATTRIBUTES, account_change, record, record_account_update
from config import settings
from database import Statement
from integrations.discord import TOO_OFTEN, UNREACHABLE, DiscordUser
from models import Account, EventType, fold, now
from permissions import (
    Action,
    Permission,
    Target,
    after_move,
    labels_of,
    refused_grants,
    refused_revocations,
)
from queries import JSON
from schemas import (
    AccountChanges,
    AccountPageSchema,
    AccountQuery,
    AccountSchema,
    NewAccount,
    SignupsSchema,
)

SIGNUPS_CLOSED = "Signups are closed."

_ID = Account.id == bindparam("id")
_CHANGEABLE = (*ACCOUNT_ATTRIBUTES, "team_id")
_VALUES: dict[str, Any] = {name: bindparam(name) for name in (*_CHANGEABLE, "search_name")}
_INSERT = Statement(
    insert(Account).values(id=bindparam("id"), created_at=bindparam("created_at"), **_VALUES)
)
_ROW = Statement(select(*(getattr(Account, name) for name in _CHANGEABLE)).where(_ID))
_UPDATE = Statement(update(Account).where(_ID).values(**_VALUES))
_DELETE = Statement(delete(Account).where(_ID))

blp = Blueprint("accounts", __name__, "Accounts: the members of the community")


@blp.get("/accounts/signups", returns={200: SignupsSchema})
def view_signups() -> dict[str, bool]:
    """Check if signups are open."""
    return {"signups_open": settings().signups_open}


@blp.post(
    "/accounts/new",
    "/acounts/new",
    body=NewAccount,
    returns={201: AccountSchema},
    needs=Action.CREATE_ACCOUNT,
    errors={409: "An account with the id 80351110224678912 already exists."},
)
def create_account(body: dict[str, Any]) -> JSON | None:
    """Create an account, optionally in a team (0 means none) and with permissions.

    Each permission must be one that the caller may grant in that team. Refused while signups are
    closed.
    """
    if not settings().signups_open:
        raise Forbidden(SIGNUPS_CLOSED)
    team_id = body.pop("team", None)
    _refuse("grant", refused_grants(principal(), Permission(body["permissions"]), team_id))
    if _ROW.first(id=body["id"]):
        raise Conflict(f"An account with the id {body['id']} already exists.")
    insert_account(**body, team_id=team_id)
    return queries.account(body["id"])


@blp.get("/accounts/search", query=AccountQuery, returns={200: AccountPageSchema})
def search_accounts(query: dict[str, Any]) -> JSON | None:
    """List accounts by name, a page at a time."""
    return queries.account_page(**query)


@blp.get("/account/<account>", returns={200: AccountSchema})
def view_account(account: int) -> JSON | None:
    """View an account."""
    return queries.account(account)


@blp.patch(
    "/account/<account>",
    body=AccountChanges,
    returns={200: AccountSchema},
    needs=Action.USE_CREDENTIALS,
    discord="discord_token",
    errors={
        403: "This needs the permission manage_account_details.",
        429: TOO_OFTEN,
        502: UNREACHABLE,
    },
)
def edit_account(
    account: int, body: dict[str, Any], discord_user: DiscordUser | None
) -> JSON | None:
    """Change an account, all or nothing.

    `name`, `discriminator` and `avatar_url` need the permission `manage_account_details`. `team`
    (0 means none) needs `manage_account_teams`, or a session of this account, or, to remove it from
    its team, `manage_own_team` there. Each permission granted or revoked needs `manage_permissions`
    and that permission; for `manage_own_team` it is also enough to have it in the same team, or to
    have `manage_permissions` and `manage_teams`. A grant is judged by the team after the request, a
    revocation by the one before. An account that moves to another team loses `manage_own_team`,
    unless the request grants it there or its caller could; one that is left without a team always
    does.

    `discord_token`, a token of this account's Discord user, needs nothing, not even credentials:
    name, discriminator and avatar are then taken from Discord, ignoring any in the request.
    """
    before = _ROW.first(id=account)
    moves = "team" in body
    team = body.pop("team") if moves else before.team_id
    granted = Permission(body.pop("grant_permissions", 0))
    revoked = Permission(body.pop("revoke_permissions", 0))

    target = Target(account_id=account, team_id=before.team_id, new_team_id=team)
    if body:
        permit(Action.EDIT_ACCOUNT, target)
    if moves:
        permit(Action.MOVE_ACCOUNT, target)
    if granted:
        _refuse("grant", refused_grants(principal(), granted, team))
    if revoked:
        _refuse("revoke", refused_revocations(principal(), revoked, before.team_id))
    if discord_user and discord_user.id != account:
        raise Forbidden("This Discord token belongs to another account.")

    held = (Permission(before.permissions) | granted) & ~revoked
    if team != before.team_id:
        held = after_move(principal(), held, granted, team)
    details = body | (vars(discord_user) if discord_user else {})
    after = before._asdict() | details | {"team_id": team, "permissions": int(held), "id": account}
    _UPDATE.run(**after, search_name=fold(after["name"]))
    if team != before.team_id:
        moved = {"team_id": team, "left_team_id": before.team_id}
        record(EventType.ACCOUNT_TEAM_UPDATE, [account], **moved)
    author = None if has_credentials() else f"account {account}"
    record_account_update(account, account_change(before._asdict(), after), author)
    return queries.account(account)


@blp.delete("/account/<account>", returns={204: None}, needs=Action.DELETE_ACCOUNT)
def delete_account(account: int) -> None:
    """Delete an account with its sessions and awards."""
    record(EventType.ACCOUNT_DELETE, [account])
    _DELETE.run(id=account)


def insert_account(*, author: str | None = None, team_id: int | None = None, **values: Any) -> None:
    """Insert an account, and record the events of that."""
    defaults = {"avatar_url": None, "permissions": 0, "created_at": now(), "team_id": team_id}
    _INSERT.run(**defaults | values, search_name=fold(values["name"]))
    record(
        EventType.ACCOUNT_CREATE,
        [values["id"]],
        author=author,
        granted=values.get("permissions", 0),
    )
    if team_id is not None:
        record(EventType.ACCOUNT_TEAM_UPDATE, [values["id"]], team_id=team_id)


def _refuse(verb: str, refused: Iterable[Permission]) -> None:
    if labels := labels_of(refused):
        raise Forbidden(f"You may not {verb} this account: {labels}.")
