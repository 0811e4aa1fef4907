"""Awards, and who holds them."""

import json
from http import HTTPStatus
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from werkzeug.exceptions import NotFound

import queries
from api.endpoints import Blueprint
from callbacks.events import record_accounts
from database import Statement
from models import Account, Award, Awardee, EventType
from permissions import Action
from queries import JSON, given_ids
from schemas import AwardChanges, AwardDetailsSchema, AwardSchema, NewAward

NOT_HELD = "This account does not have this award."

_ID = Award.id == bindparam("id")
_VALUES: dict[str, Any] = {name: bindparam(name) for name in ("title", "image_url", "team_id")}
_INSERT = Statement(insert(Award).values(**_VALUES).returning(Award.id))
_ROW = Statement(select(Award.title, Award.image_url, Award.team_id).where(_ID))
_UPDATE = Statement(update(Award).where(_ID).values(**_VALUES))
_DELETE = Statement(delete(Award).where(_ID))
_GIVE = Statement(
    insert(Awardee).from_select(
        ["account_id", "award_id"],
        select(Account.id, bindparam("award_id", type_=Award.id.type))
        .where(Account.id.in_(given_ids()))
        .order_by(Account.id),
    )
)
_HOLDERS = Statement(
    select(Awardee.account_id)
    .where(Awardee.award_id == bindparam("id"))
    .order_by(Awardee.account_id)
)
_held = (Awardee.account_id == bindparam("account"), Awardee.award_id == bindparam("award"))
_HOLDS = Statement(select(Awardee.award_id).where(*_held))
_TAKE = Statement(delete(Awardee).where(*_held))

blp = Blueprint("awards", __name__, "Awards, and who has them")


@blp.post("/awards/new", body=NewAward, returns={201: AwardSchema}, needs=Action.MANAGE_AWARDS)
def create_award(body: dict[str, Any]) -> JSON | None:
    """Create an award for a team and give it to accounts.

    The accounts need not be in the team; one that is named twice is given the award once.
    """
    award: int = _INSERT.value(
        title=body["title"], image_url=body["image_url"], team_id=body["team"]
    )
    return _give(award, sorted(set(body["accounts"])))


@blp.get("/award/<award>", returns={200: AwardDetailsSchema})
def view_award(award: int) -> JSON | None:
    """View an award, the accounts that have it, and its team."""
    return queries.award_details(award)


@blp.patch(
    "/award/<award>", body=AwardChanges, returns={200: AwardSchema}, needs=Action.MANAGE_AWARDS
)
def edit_award(award: int, body: dict[str, Any]) -> JSON | None:
    """Change an award's title, image or team."""
    if "team" in body:
        body["team_id"] = body.pop("team")
    _UPDATE.run(id=award, **_ROW.first(id=award)._asdict() | body)
    return queries.award(award)


@blp.delete("/award/<award>", returns={204: None}, needs=Action.MANAGE_AWARDS)
def delete_award(award: int) -> None:
    """Delete an award, and take it from everybody who has it."""
    holders = [holder.account_id for holder in _HOLDERS.all(id=award)]
    shown = queries.award(award)
    _DELETE.run(id=award)
    record_accounts(EventType.AWARD_TAKE, holders, award_id=award, award=shown)


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
    record_accounts(EventType.AWARD_TAKE, [account], award_id=award, award=queries.award(award))


def _give(award: int, accounts: list[int]) -> JSON | None:
    _GIVE.run(award_id=award, ids=json.dumps(accounts))
    shown = queries.award(award)
    record_accounts(EventType.AWARD_GIVE, accounts, award_id=award, award=shown)
    return shown
