"""The community's pages: a view reads rows, its template shows them.

A view returns the values for the template of the same name, and `preview`, the look of a link to
the page elsewhere. Everything that a page reads is one snapshot of the database.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from flask import Blueprint, Flask, Response, current_app, render_template, request
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import BaseConverter, ValidationError

from api import errors
from config import settings
from database import Statement, transaction
from models import MAX_ID, fold, now
from pages import charts, docs, queries, text

HEADERS: Final = {
    "Cache-Control": "public, max-age=30",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' https:; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
}
KEPT = 30
"""How many seconds, at most, a page is shown again."""
MOST_SHOWN = 64
"""How many pages are remembered, each about 20 KB."""
SIZE = 20
"""How many records a list has on one page."""
LEADERS = 5
NEWEST, NEWEST_OF_TEAM = 7, 6
"""How many awards are shown beside other things."""
FOUND = 20
LARGEST = 20
MAX_TEXT = 255
PARTS = {"teams", "members", "awards", "search", "numbers"}
"""The first parts of the paths of pages."""

Values = dict[str, Any]
View = Callable[..., Values]

blp = Blueprint("pages", __name__, template_folder="templates")


@dataclass(frozen=True)
class Preview:
    """A page's title, and the look of a link to it elsewhere."""

    title: str
    description: str
    picture: str | None = None


class Shelf(NamedTuple):
    """One page of a list, and the number of its pages."""

    rows: Sequence[Any]
    page: int
    pages: int
    offset: int
    total: int


class KeyConverter(BaseConverter):
    """The id of a record, in a path."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        """Return the id, unless no record can have it."""
        if int(value) > MAX_ID:
            raise ValidationError
        return int(value)


def init_app(app: Flask) -> None:
    """Serve the pages."""
    environment = app.jinja_env
    environment.undefined = StrictUndefined
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {function.__name__: function for function in text.FILTERS}
    style = (docs.STATIC / "style.css").read_bytes()
    environment.globals |= {
        "style_version": hashlib.sha256(style).hexdigest()[:8],
        "HEIGHT": charts.HEIGHT,
        "WIDTH": charts.WIDTH,
    }
    app.extensions["shown_pages"] = {}
    app.url_map.converters["key"] = KeyConverter
    app.register_blueprint(blp)
    app.register_error_handler(NotFound, _answer_not_found)


def page(rule: str, *, kept: bool = False) -> Callable[[View], View]:
    """Make a page from a view.

    One that is `kept` is not even read again until something changes, for some seconds at most:
    counting all of 100,000 members takes longer than the rest of a request.
    """

    def decorator(view: View) -> View:
        def html(values: Values) -> str:
            return _render(f"{view.__name__}.html", **values)

        def answer(**path: Any) -> Response:
            with transaction(write=False):
                if kept:
                    state = queries.TOTALS.first()
                    shown = _shown(state, lambda: html(view(**path)))
                else:
                    values = view(**path)
                    shown = _shown(values, lambda: html(values))
            return Response(shown, mimetype="text/html", headers=HEADERS)

        blp.add_url_rule(rule, view.__name__, answer)
        return view

    return decorator


@page("/")
def standings() -> Values:
    """Show the teams by points, and how the leaders got theirs."""
    totals = queries.TOTALS.first()
    shelf = _shelf(queries.STANDINGS, totals.teams)
    ranked = _ranked(shelf)
    values = {"totals": totals, "shelf": shelf, "ranked": ranked, "newest": [], "race": None}
    if shelf.page == 1:
        leaders = {row.id: row.name for _, row in ranked[:LEADERS] if row.points}
        values["newest"] = queries.AWARDS.all(size=NEWEST, offset=0)
        if leaders:
            won = queries.RACE.all(teams=f"[{','.join(map(str, leaders))}]")
            values["race"] = race = charts.lines(leaders, won, _today())
            values["race_now"] = ", ".join(
                f"{text.plain(line.name)} {line.values[-1]:,}" for line in race.lines
            )
    leader = f"{text.plain(ranked[0][1].name)} leads. " if totals.most_points else ""
    counts = (
        text.many(totals.teams, "team"),
        text.many(totals.members, "member"),
        text.many(totals.awards, "award"),
    )
    preview = Preview("Standings", f"{leader}{', '.join(counts)}.")
    return values | {"preview": preview}


@page("/teams")
def teams() -> Values:
    """Show all teams, by name."""
    totals = queries.TOTALS.first()
    preview = Preview("Teams", f"{text.many(totals.teams, 'team')}, by name.")
    return {"shelf": _shelf(queries.TEAMS, totals.teams), "preview": preview}


@page("/teams/<key:team_id>")
def team(team_id: int) -> Values:
    """Show one team."""
    row = _found(queries.TEAM.first(id=team_id), "team")
    description = (
        f"{text.ordinal(row.rank)} of {text.many(row.teams, 'team')} "
        f"with {text.many(row.points, 'point')}: {text.many(row.award_count, 'award')}, "
        f"{text.many(row.member_count, 'member')}."
    )
    return {
        "team": row,
        "awards": queries.TEAM_AWARDS.all(id=team_id, size=NEWEST_OF_TEAM, offset=0),
        "shelf": _shelf(queries.TEAM_MEMBERS, row.member_count, id=team_id),
        "preview": Preview(text.plain(row.name), description),
    }


@page("/teams/<key:team_id>/awards")
def team_awards(team_id: int) -> Values:
    """Show all awards of one team."""
    row = _found(queries.TEAM.first(id=team_id), "team")
    description = (
        f"{text.many(row.award_count, 'award')}, worth {text.many(row.points, 'point')} together."
    )
    return {
        "team": row,
        "shelf": _shelf(queries.TEAM_AWARDS, row.award_count, id=team_id),
        "preview": Preview(f"Awards of {text.plain(row.name)}", description),
    }


@page("/members/<key:account_id>")
def member(account_id: int) -> Values:
    """Show one member."""
    row = _found(queries.MEMBER.first(id=account_id), "member")
    team_name = f"In the team {text.plain(row.team)}" if row.team_id else "In no team"
    description = f"{team_name}, with {text.many(row.award_count, 'award')}."
    return {
        "member": row,
        "shelf": _shelf(queries.MEMBER_AWARDS, row.award_count, id=account_id),
        "preview": Preview(text.plain(row.name), description, row.avatar_url),
    }


@page("/awards")
def awards() -> Values:
    """Show all awards, the newest first."""
    totals = queries.TOTALS.first()
    preview = Preview("Awards", f"{text.many(totals.awards, 'award')} so far.")
    return {"shelf": _shelf(queries.AWARDS, totals.awards), "preview": preview}


@page("/awards/<key:award_id>")
def award(award_id: int) -> Values:
    """Show one award and its holders."""
    row = _found(queries.AWARD.first(id=award_id), "award")
    many = row.holder_count > queries.MANY
    holders = queries.MANY_HOLDERS if many else queries.FEW_HOLDERS
    whose = f" for {text.plain(row.team)}" if row.team_id else ""
    description = (
        f"{text.many(row.points, 'point')}{whose}, held by {text.many(row.holder_count, 'member')}."
    )
    return {
        "award": row,
        "shelf": _shelf(holders, row.holder_count, id=award_id),
        "preview": Preview(text.plain(row.title), description, row.image_url),
    }


@page("/search")
def search() -> Values:
    """Show the members, teams and awards with some text in their name."""
    q = request.args.get("q", "")[:MAX_TEXT]
    folded = fold(q.replace("\0", "").strip())
    found = {
        kind: statement.all(text=folded, size=FOUND + 1) if folded else []
        for kind, statement in queries.FOUND.items()
    }
    return {
        "q": q,
        "asked": bool(folded),
        "found": {kind: rows[:FOUND] for kind, rows in found.items()},
        "more": {kind: len(rows) > FOUND for kind, rows in found.items()},
        "preview": Preview("Search", "Find a member, a team or an award."),
    }


@page("/numbers", kept=True)
def numbers() -> Values:
    """Show how the community grows."""
    today = _today()
    first = charts.monday(today) - charts.WEEK * (charts.MOST_WEEKS - 1)
    totals = queries.TOTALS.first()
    joined = [(0, row.day, row.value) for row in queries.JOINED.all()]
    given = queries.GIVEN.all(since=first * queries.DAY)
    first = min((row.day for row in given), default=today)
    largest = queries.LARGEST.all(size=LARGEST)
    return {
        "totals": totals,
        "members": charts.lines({0: "Members"}, joined, today) if joined else None,
        "given": charts.columns(given, first, today) if given else None,
        "largest": largest,
        "preview": Preview(
            "Numbers",
            f"{text.many(totals.members, 'member')} in {text.many(totals.teams, 'team')}.",
        ),
    }


def _ranked(shelf: Shelf) -> list[tuple[int, Any]]:
    """Return the teams of one page of the standings with their ranks: 1, 2, 2, 4."""
    ranked: list[tuple[int, Any]] = []
    for place, row in enumerate(shelf.rows, shelf.offset + 1):
        if not ranked:
            rank = row.first
        elif row.points < ranked[-1][1].points:
            rank = place
        ranked.append((rank, row))
    return ranked


def _shelf(statement: Statement, total: int, **of: int) -> Shelf:
    """Return the page of a list that the query asks for, or the nearest one that exists."""
    pages = max(-(-total // SIZE), 1)
    asked = request.args.get("page", "")
    wanted = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 20 else 1
    number = min(max(wanted, 1), pages)
    offset = (number - 1) * SIZE
    return Shelf(statement.all(**of, size=SIZE, offset=offset), number, pages, offset, total)


def _found(row: Any, kind: str) -> Any:
    if row is None:
        raise NotFound(f"There is no such {kind}. Perhaps it has been deleted.")
    return row


def _today() -> int:
    return int(now() // queries.DAY)


def _has_own_style() -> bool:
    return (Path(current_app.instance_path) / "style.css").exists()


def _shown(state: Any, html: Callable[[], str]) -> str:
    """Return a page as it was last shown if its state, such as the rows it shows, is the same.

    Writing HTML takes most of a page's time. The ages of things may be as old as the browser's
    copy.
    """
    shown: dict[str, tuple[Any, str]] = current_app.extensions["shown_pages"]
    state = (now() // KEPT, _has_own_style(), state)
    before, text = shown.get(request.url, (None, ""))
    if before != state:
        text = html()
        if len(shown) >= MOST_SHOWN:
            shown.clear()
        shown[request.url] = state, text
    return text


def _render(template: str, preview: Preview, **values: Any) -> str:
    public_url = settings().public_url
    picture = preview.picture
    if not (picture and picture.startswith("https://")):
        ours = public_url and public_url.startswith("https://")
        picture = f"{public_url}/pages/preview.png" if ours else None
    return render_template(
        template,
        preview=preview,
        preview_picture=picture,
        preview_url=public_url and f"{public_url}{request.path}",
        community=settings().community_name,
        own_style=_has_own_style(),
        **values,
    )


def _answer_not_found(error: HTTPException) -> Any:
    """Show people who ask for a page what to do; the API answers as usual."""
    if request.method not in {"GET", "HEAD"} or request.path.split("/")[1] not in PARTS:
        return errors.answer(error)
    nothing = "There is nothing at this address."
    detail = error.description if request.url_rule else nothing
    html = _render("not_found.html", Preview("Not found", nothing), detail=detail)
    return Response(html, 404, mimetype="text/html", headers=HEADERS)
