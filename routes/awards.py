"""Awards and their holders."""

import json
from http import HTTPStatus
from typing import Any

from sqlalchemy import Double, bindparam, delete, insert, select, update
from werkzeug.exceptions import NotFound

import queries
from api.endpoints import Blueprint
from callbacks.events import record
from database import Statement
from models import Account, Award, Awardee, EventType, fold, now
from permissions import Action
from queries import JSON
from schemas import (
    AwardChanges,
    AwardDetailsSchema,
    AwardPageSchema,
    AwardQuery,
    AwardSchema,
    NewAward,
)
from shapes import given_ids

NOT_HELD = "This account does not have this award."

_ID = Award.id == bindparam("id")
_CHANGEABLE = ("title", "image_url", "team_id", "points")
_VALUES: dict[str, Any] = {name: bindparam(name) for name in (*_CHANGEABLE, "search_title")}
_INSERT = Statement(
    insert(Award).values(created_at=bindparam("created_at"), **_VALUES).returning(Award.id)
)
_ROW = Statement(select(*(getattr(Award, name) for name in _CHANGEABLE)).where(_ID))
_UPDATE = Statement(update(Award).where(_ID).values(**_VALUES))
_DELETE = Statement(delete(Award).where(_ID))
_GIVE = Statement(
    insert(Awardee).from_select(
        ["account_id", "award_id", "given_at"],
        select(
            Account.id,
            bindparam("award_id", type_=Award.id.type),
            bindparam("given_at", type_=Double),
        )
        .where(Account.id.in_(given_ids()))
        .order_by(Account.id),
    )
)
_held = (Awardee.account_id == bindparam("account"), Awardee.award_id == bindparam("award"))
_HOLDS = Statement(select(Awardee.award_id).where(*_held))
_TAKE = Statement(delete(Awardee).where(*_held))
_TAKE_FROM_ALL = Statement(
    delete(Awardee).where(Awardee.award_id == bindparam("id")).returning(Awardee.account_id)
)

blp = Blueprint("awards", __name__, "Awards and their holders")


@blp.post("/awards/new", body=NewAward, returns={201: AwardSchema}, needs=Action.MANAGE_AWARDS)
def create_award(body: dict[str, Any]) -> JSON | None:
    """Create an award for a team and give it to accounts.

    It is worth one point to the team, unless `points` says otherwise. The accounts need not be in
    the team; one that is named twice gets the award once.
    """
    accounts, body["team_id"] = body.pop("accounts"), body.pop("team")
    award: int = _INSERT.value(**body, search_title=fold(body["title"]), created_at=now())
    record(EventType.AWARD_CREATE, [award])
    _give(award, sorted(set(accounts)))
    return queries.award(award)


@blp.get("/awards/search", query=AwardQuery, returns={200: AwardPageSchema})
def search_awards(query: dict[str, Any]) -> JSON | None:
    """List awards by title, a page at a time, with their team, points and number of holders."""
    return queries.award_page(**query)


@blp.get("/award/<award>", returns={200: AwardDetailsSchema})
def view_award(award: int) -> JSON | None:
    """View an award, its holders and its team."""
    return queries.award_details(award)


@blp.patch(
    "/award/<award>", body=AwardChanges, returns={200: AwardSchema}, needs=Action.MANAGE_AWARDS
)
def edit_award(award: int, body: dict[str, Any]) -> JSON | None:
    """Change an award's title, image, team or points."""
    if "team" in body:
        body["team_id"] = body.pop("team")
    before = _ROW.first(id=award)._asdict()
    after = before | body
    changed = [name.removesuffix("_id") for name in _CHANGEABLE if before[name] != after[name]]
    if changed:
        _UPDATE.run(id=award, **after, search_title=fold(after["title"]))
        left = before["team_id"] if "team" in changed else None
        record(EventType.AWARD_UPDATE, [award], changed=changed, left_team_id=left)
    return queries.award(award)


@blp.delete("/award/<award>", returns={204: None}, needs=Action.MANAGE_AWARDS)
def delete_award(award: int) -> None:
    """Delete an award, taking it from all its holders."""
    holders = sorted(holder.account_id for holder in _TAKE_FROM_ALL.all(id=award))
    record(EventType.AWARD_TAKE, holders, award_id=award)
    record(EventType.AWARD_DELETE, [award])
    _DELETE.run(id=award)


@blp.put(
    "/account/<account>/award/<award>",
    returns={201: None, 208: None},
    needs=Action.MANAGE_AWARDS,
)
def give_award(account: int, award: int) -> HTTPStatus:
    """Give an award to an account."""
    if _HOLDS.first(account=account, award=award):
        return HTTPStatus.ALREADY_REPORTED
    _give(award, [account])
    return HTTPStatus.CREATED


@blp.delete(
    "/account/<account>/award/<award>",
    returns={204: None},
    needs=Action.MANAGE_AWARDS,
    errors={404: NOT_HELD},
)
def take_award(account: int, award: int) -> None:
    """Take an award from an account."""
    if not _TAKE.run(account=account, award=award):
        raise NotFound(NOT_HELD)
    record(EventType.AWARD_TAKE, [account], award_id=award)


def _give(award: int, accounts: list[int]) -> None:
    _GIVE.run(award_id=award, ids=json.dumps(accounts), given_at=now())
    record(EventType.AWARD_GIVE, accounts, award_id=award)
