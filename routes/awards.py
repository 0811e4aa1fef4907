"""Awards, and who has them."""

from typing import Any

from flask import Response
from sqlalchemy import insert, select
from werkzeug.exceptions import NotFound

import queries
from api.endpoints import Blueprint, found
from callbacks.events import record_accounts
from database import connection, db
from models import Account, Award, Awardee, EventType
from permissions import Action
from queries import Record
from schemas import AwardChanges, AwardDetailsSchema, AwardSchema, NewAward

blp = Blueprint("awards", __name__, description="Awards, and who has them")


@blp.route("/awards/new", methods=["POST"])
@blp.arguments(NewAward)
@blp.response(201, AwardSchema)
@blp.requires(Action.MANAGE_AWARDS)
def create_award(body: dict[str, Any]) -> Record:
    """Create an award for a team and give it to accounts.

    The accounts need not be in the team; one that is named twice is given the award once.
    """
    award = Award(title=body["title"], image_url=body["image_url"], team_id=body["team"])
    db.session.add(award)
    db.session.flush()
    account_ids = sorted(set(body["accounts"]))
    awardees = [{"account_id": key, "award_id": award.id} for key in account_ids]
    if awardees:
        connection().execute(insert(Awardee), awardees)
    shown = found(queries.award(award.id), "award")
    record_accounts(EventType.AWARD_GIVE, account_ids, award=shown)
    return shown


@blp.route("/award/<award>")
@blp.response(200, AwardDetailsSchema)
def view_award(award: int) -> Record:
    """View an award, the accounts that have it, and its team."""
    return found(queries.award_details(award), "award")


@blp.route("/award/<award>", methods=["PATCH"])
@blp.arguments(AwardChanges)
@blp.response(200, AwardSchema)
@blp.requires(Action.MANAGE_AWARDS)
def edit_award(award: Award, body: dict[str, Any]) -> Record:
    """Change an award's title, image or team."""
    if "team" in body:
        award.team_id = body.pop("team")
    for field, value in body.items():
        setattr(award, field, value)
    return found(queries.award(award.id), "award")


@blp.route("/award/<award>", methods=["DELETE"])
@blp.response(204)
@blp.requires(Action.MANAGE_AWARDS)
def delete_award(award: Award) -> None:
    """Delete an award, and take it from everybody who has it."""
    shown = queries.award(award.id)
    holders = select(Awardee.account_id).where(Awardee.award_id == award.id)
    account_ids = sorted(db.session.scalars(holders))
    db.session.delete(award)
    db.session.flush()
    record_accounts(EventType.AWARD_TAKE, account_ids, award=shown)


@blp.route("/account/<account>/award/<award>", methods=["PUT"])
@blp.response(201, description="The account was given the award")
@blp.alt_response(208, description="The account already had the award")
@blp.requires(Action.MANAGE_AWARDS)
def give_award(account: Account, award: Award) -> Response:
    """Give an award to an account."""
    if db.session.get(Awardee, (account.id, award.id)):
        return Response(status=208)
    db.session.add(Awardee(account_id=account.id, award_id=award.id))
    record_accounts(EventType.AWARD_GIVE, [account.id], award=queries.award(award.id))
    return Response(status=201)


@blp.route("/account/<account>/award/<award>", methods=["DELETE"])
@blp.response(204)
@blp.error(404, "This account does not have this award.")
@blp.requires(Action.MANAGE_AWARDS)
def take_award(account: Account, award: Award) -> None:
    """Take an award from an account."""
    awardee = db.session.get(Awardee, (account.id, award.id))
    if awardee is None:
        raise NotFound("This account does not have this award.")
    db.session.delete(awardee)
    record_accounts(EventType.AWARD_TAKE, [account.id], award=queries.award(award.id))
