"""Standings: the teams by points."""

from typing import Any

import queries
from api.endpoints import Blueprint
from queries import JSON
from schemas import PageQuery, StandingsPageSchema

blp = Blueprint("standings", __name__, "Standings: the teams by points")


@blp.get("/standings", query=PageQuery, returns={200: StandingsPageSchema})
def view_standings(query: dict[str, Any]) -> JSON | None:
    """List all teams by points, highest first, a page at a time.

    A team's points are those of its awards. Teams with equal points share a rank (1, 2, 2, 4), and
    are sorted by name.
    """
    return queries.standings(**query)
