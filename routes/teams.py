"""Teams."""

from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

import queries
from api.endpoints import Blueprint
from callbacks.events import record
from database import Statement
from models import Account, Award, EventType, Team, fold, now
from permissions import Action, Permission
from queries import JSON
from schemas import TeamBody, TeamPageSchema, TeamQuery, TeamSchema

_ID = Team.id == bindparam("id")
_NAMES: dict[str, Any] = {"name": bindparam("name"), "search_name": bindparam("search_name")}
_INSERT = Statement(
    insert(Team).values(**_NAMES, created_at=bindparam("created_at")).returning(Team.id)
)
_NAME = Statement(select(Team.name).where(_ID))
_RENAME = Statement(update(Team).where(_ID).values(**_NAMES))
_DELETE = Statement(delete(Team).where(_ID))
_OWNERS = Statement(
    select(Account.id).where(
        Account.team_id == bindparam("id"),
        Account.permissions.bitwise_and(Permission.MANAGE_OWN_TEAM.value) != 0,
    )
)
_LEAVE = Statement(
    update(Account)
    .where(Account.team_id == bindparam("id"))
    .values(
        team_id=None,
        permissions=Account.permissions.bitwise_and(int(~Permission.MANAGE_OWN_TEAM)),
    )
    .returning(Account.id)
)
_RELEASE = Statement(
    update(Award).where(Award.team_id == bindparam("id")).values(team_id=None).returning(Award.id)
)

blp = Blueprint("teams", __name__, "Teams")


@blp.post("/teams/new", body=TeamBody, returns={201: TeamSchema}, needs=Action.CREATE_TEAM)
def create_team(body: dict[str, Any]) -> JSON | None:
    """Create a team.

    Names need not be unique.
    """
    name = body["name"]
    team: int = _INSERT.value(name=name, search_name=fold(name), created_at=now())
    record(EventType.TEAM_CREATE, [team])
    return queries.team(team)


@blp.get("/teams/search", query=TeamQuery, returns={200: TeamPageSchema})
def search_teams(query: dict[str, Any]) -> JSON | None:
    """List teams by name, a page at a time."""
    return queries.team_page(**query)


@blp.get("/team/<team>", returns={200: TeamSchema})
def view_team(team: int) -> JSON | None:
    """View a team."""
    return queries.team(team)


@blp.patch("/team/<team>", body=TeamBody, returns={200: TeamSchema}, needs=Action.EDIT_TEAM)
def edit_team(team: int, body: dict[str, Any]) -> JSON | None:
    """Rename a team."""
    name = body["name"]
    if _NAME.value(id=team) != name:
        _RENAME.run(id=team, name=name, search_name=fold(name))
        record(EventType.TEAM_UPDATE, [team], changed=["name"])
    return queries.team(team)


@blp.delete("/team/<team>", returns={204: None}, needs=Action.DELETE_TEAM)
def delete_team(team: int) -> None:
    """Delete a team.

    Its members are left without a team, and so lose `manage_own_team`; its awards stay.
    """
    record(EventType.TEAM_DELETE, [team])
    owners = sorted(owner.id for owner in _OWNERS.all(id=team))
    members = sorted(member.id for member in _LEAVE.all(id=team))
    awards = sorted(award.id for award in _RELEASE.all(id=team))
    _DELETE.run(id=team)
    record(EventType.ACCOUNT_TEAM_UPDATE, members, left_team_id=team)
    record(
        EventType.ACCOUNT_UPDATE,
        owners,
        changed=["permissions"],
        revoked=Permission.MANAGE_OWN_TEAM.value,
    )
    record(EventType.AWARD_UPDATE, awards, changed=["team"], left_team_id=team)
