"""The log of events."""

from typing import Any

import queries
from api.endpoints import Blueprint
from permissions import Action
from queries import JSON
from schemas import EventQuery, EventsSchema

blp = Blueprint("events", __name__, "The log of events")


@blp.get("/events", query=EventQuery, returns={200: EventsSchema}, needs=Action.READ_LOG)
def list_events(query: dict[str, Any]) -> JSON | None:
    """List the events after the one with the id `after`, oldest first.

    Pass `last` as the next `after`: a bot that was away catches up this way. Events are kept for
    90 days, or as the host set. `changed` names attributes or, for an app's callbacks, types of
    events. `team` and `left_team` are the teams that an account or award joined and left.
    Every event of an award has its team; an `award_update` changed it only if `changed` has `team`.
    """
    return queries.events(**query)
