"""Accounts: the members of the community."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from marshmallow import ValidationError
from werkzeug.exceptions import Conflict, Forbidden

import queries
from api.endpoints import Blueprint, found
from authentication import permit, principal
from callbacks.events import record_accounts
from config import settings
from database import db
from fields import Message
from integrations.discord import BAD_TOKEN, TOO_OFTEN, UNREACHABLE, BadTokenError, identify
from models import Account, EventType
from permissions import (
    Action,
    Permission,
    Target,
    after_move,
    refused_grants,
    refused_revocations,
)
from queries import Record
from schemas import (
    AccountChanges,
    AccountPageSchema,
    AccountQuery,
    AccountSchema,
    NewAccount,
    SignupsSchema,
)

DETAILS = ("name", "discriminator", "avatar_url")

blp = Blueprint("accounts", __name__, description="Accounts: the members of the community")


@blp.route("/accounts/signups")
@blp.response(200, SignupsSchema)
def view_signups() -> dict[str, bool]:
    """Check if signups are open."""
    return {"signups_open": settings().signups_open}


@blp.route("/accounts/new", methods=["POST"])
@blp.route("/acounts/new", methods=["POST"], endpoint="create_account_as_first_spelled")
@blp.arguments(NewAccount)
@blp.response(201, AccountSchema)
@blp.error(409, "There is an account with the id 80351110224678912 already.")
@blp.requires(Action.CREATE_ACCOUNT)
def create_account(body: dict[str, Any]) -> Record:
    """Create an account, perhaps in a team (0 is none) and with permissions.

    Each permission must be one that the caller may grant in that team. Refused while signups are
    closed.
    """
    if not settings().signups_open:
        raise Forbidden("Signups are closed.")
    team_id = body.pop("team", None)
    _refuse("grant", refused_grants(principal(), Permission(body["permissions"]), team_id))
    if db.session.get(Account, body["id"]):
        raise Conflict(f"There is an account with the id {body['id']} already.")
    account = Account(**body, team_id=team_id)
    db.session.add(account)
    db.session.flush()
    record_accounts(EventType.ACCOUNT_CREATE, [account.id])
    if team_id is not None:
        record_accounts(EventType.ACCOUNT_TEAM_UPDATE, [account.id], team_id=team_id)
    return found(queries.account(body["id"]), "account")


@blp.route("/accounts/search")
@blp.arguments(AccountQuery, location="query")
@blp.response(200, AccountPageSchema)
def search_accounts(query: dict[str, Any]) -> Record:
    """List accounts by name, a page at a time."""
    return queries.account_page(**query)


@blp.route("/account/<account>")
@blp.response(200, AccountSchema)
def view_account(account: int) -> Record:
    """View an account."""
    return found(queries.account(account), "account")


def ask_discord(body: dict[str, Any]) -> None:
    """Put the Discord user that a token belongs to in the place of the token."""
    token = body.pop("discord_token", None)
    if token is not None:
        try:
            body["discord_user"] = identify(token)
        except BadTokenError:
            issue = Message(BAD_TOKEN)
            raise ValidationError({"discord_token": [issue]}) from None


@blp.route("/account/<account>", methods=["PATCH"])
@blp.arguments(AccountChanges)
@blp.response(200, AccountSchema)
@blp.error(403, "This needs the permission manage_account_details.")
@blp.error(429, TOO_OFTEN)
@blp.error(502, UNREACHABLE)
@blp.requires(unless=lambda given: given == {"discord_token"})
@blp.prepares(ask_discord)
def edit_account(account: Account, body: dict[str, Any]) -> Record:
    """Change an account, wholly or not at all.

    `name`, `discriminator` and `avatar_url` need the permission `manage_account_details`. `team`
    (0 is none) needs `manage_account_teams`, or being this account, or, to remove it from its team,
    `manage_own_team` in there. Each permission granted or revoked needs `manage_permissions` and
    that permission; for `manage_own_team` it is also enough to have it in the same team, or to have
    `manage_permissions` and `manage_teams`. A grant is judged by the team after the request, a
    revocation by the one before. An account that moves to another team loses `manage_own_team`,
    unless the request grants it there or its caller could; one that leaves its team always does.

    `discord_token`, a token of this account's Discord user, needs nothing, not even credentials:
    name, discriminator and avatar are then taken from Discord, whatever else the request says.
    """
    _check_changes(account, body)
    _apply_changes(account, body)
    return found(queries.account(account.id), "account")


@blp.route("/account/<account>", methods=["DELETE"])
@blp.response(204)
@blp.requires(Action.DELETE_ACCOUNT)
def delete_account(account: Account) -> None:
    """Delete an account, its sessions, and that it has awards."""
    record_accounts(EventType.ACCOUNT_DELETE, [account.id])
    db.session.delete(account)


def _check_changes(account: Account, body: dict[str, Any]) -> None:
    """Raise `Forbidden` unless the caller may make every one of the changes."""
    team_after = _team_after(account, body)
    target = Target(account_id=account.id, team_id=account.team_id, new_team_id=team_after)
    if any(field in body for field in DETAILS):
        permit(Action.EDIT_ACCOUNT, target)
    if "team" in body:
        permit(Action.MOVE_ACCOUNT, target)
    granted, revoked = _permission_changes(body)
    if granted:
        _refuse("grant", refused_grants(principal(), granted, team_after))
    if revoked:
        _refuse("revoke", refused_revocations(principal(), revoked, account.team_id))
    if "discord_user" in body and body["discord_user"].id != account.id:
        raise Forbidden("This Discord token belongs to another account.")


def _apply_changes(account: Account, body: dict[str, Any]) -> None:
    details = body | asdict(body["discord_user"]) if "discord_user" in body else body
    for field in DETAILS:
        if field in details:
            setattr(account, field, details[field])
    granted, revoked = _permission_changes(body)
    held = (Permission(account.permissions) | granted) & ~revoked
    before, after = account.team_id, _team_after(account, body)
    if after == before:
        account.permissions = int(held)
        return
    account.team_id = after
    account.permissions = int(after_move(principal(), held, granted, after))
    record_accounts(EventType.ACCOUNT_TEAM_UPDATE, [account.id], team_id=after, left_team_id=before)


def _team_after(account: Account, body: dict[str, Any]) -> int | None:
    team_id: int | None = body.get("team", account.team_id)
    return team_id


def _permission_changes(body: dict[str, Any]) -> tuple[Permission, Permission]:
    granted, revoked = body.get("grant_permissions", 0), body.get("revoke_permissions", 0)
    return Permission(granted), Permission(revoked)


def _refuse(verb: str, refused: Iterable[Permission]) -> None:
    labels = ", ".join(permission.label for permission in refused)
    if labels:
        raise Forbidden(f"You may not {verb} this account: {labels}.")
