"""Teams."""

from typing import Any

from sqlalchemy import select, update

import queries
from api.endpoints import Blueprint, found
from callbacks.events import record_accounts, record_team
from database import db
from models import Account, EventType, Team
from permissions import Action, Permission
from queries import Record
from schemas import TeamBody, TeamPageSchema, TeamQuery, TeamSchema

blp = Blueprint("teams", __name__, description="Teams")


@blp.route("/teams/new", methods=["POST"])
@blp.arguments(TeamBody)
@blp.response(201, TeamSchema)
@blp.requires(Action.CREATE_TEAM)
def create_team(body: dict[str, Any]) -> Record:
    """Create a team.

    Names need not be unique.
    """
    team = Team(name=body["name"])
    db.session.add(team)
    db.session.flush()
    record_team(EventType.TEAM_CREATE, team.id)
    return found(queries.team(team.id), "team")


@blp.route("/teams/search")
@blp.arguments(TeamQuery, location="query")
@blp.response(200, TeamPageSchema)
def search_teams(query: dict[str, Any]) -> Record:
    """List teams by name, a page at a time."""
    return queries.team_page(**query)


@blp.route("/team/<team>")
@blp.response(200, TeamSchema)
def view_team(team: int) -> Record:
    """View a team."""
    return found(queries.team(team), "team")


@blp.route("/team/<team>", methods=["PATCH"])
@blp.arguments(TeamBody)
@blp.response(200, TeamSchema)
@blp.requires(Action.EDIT_TEAM)
def edit_team(team: Team, body: dict[str, Any]) -> Record:
    """Rename a team."""
    if team.name != body["name"]:
        team.name = body["name"]
        record_team(EventType.TEAM_UPDATE, team.id)
    return found(queries.team(team.id), "team")


@blp.route("/team/<team>", methods=["DELETE"])
@blp.response(204)
@blp.requires(Action.DELETE_TEAM)
def delete_team(team: Team) -> None:
    """Delete a team.

    Its members are left without a team, and so without `manage_own_team`; its awards stay.
    """
    record_team(EventType.TEAM_DELETE, team.id)
    members = db.session.scalars(select(Account.id).where(Account.team_id == team.id)).all()
    db.session.execute(
        update(Account)
        .where(Account.team_id == team.id)
        .values(
            team_id=None,
            permissions=Account.permissions.bitwise_and(int(~Permission.MANAGE_OWN_TEAM)),
        )
    )
    record_accounts(EventType.ACCOUNT_TEAM_UPDATE, sorted(members), left_team_id=team.id)
    db.session.delete(team)
