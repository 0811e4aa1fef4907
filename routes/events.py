"""The log of who did what to whom."""

from typing import Any

import queries
from api.endpoints import Blueprint
from permissions import Action
from queries import JSON
from schemas import EventQuery, EventsSchema

blp = Blueprint("events", __name__, "The log: who did what to whom")


@blp.get("/events", query=EventQuery, returns={200: EventsSchema}, needs=Action.READ_LOG)
def list_events(query: dict[str, Any]) -> JSON | None:
    """List what happened after the event with the id `after`, the oldest first.

    `last` is the id to ask on from: a bot that was away reads so what it has missed. Events are
    kept for 90 days, or as long as the host says. `changed` names attributes, or, for an app's
    callbacks, types of events. `team` and `left_team` are where an account or award went, and where
    it was before.
    """
    return queries.events(**query)
