"""How the pages write names, numbers and times."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flask import request
from markupsafe import Markup, escape

from models import now, utc

COLOURS = 12
"""The number of colours in the stylesheet for teams, members and awards."""

_BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MARKS = re.compile("[\u0300-\u036f]")
"""Accents, of which any number may be stacked on a letter."""
_RIGHT_TO_LEFT = {"R", "AL", "AN"}
_BLANK_LETTERS = set("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that show nothing."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def name(text: str) -> Markup:
    """Return a name as HTML: as it is, in a box outside which its characters have no effect.

    An invisible one is replaced by words.
    """
    if text.isascii() or _is_visible(text):
        return Markup(f"<bdi>{escape(text)}</bdi>")
    return Markup("<bdi><i>invisible name</i></bdi>")


def plain(text: str) -> str:
    """Return a name for text without markup, such as titles; its direction ends with it."""
    if text.isascii():
        return text
    if not _is_visible(text):
        return "invisible name"
    text = _BIDI_CONTROLS.sub("", text)
    turns = any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in text)
    return f"\u2068{text}\u2069" if turns else text


def shorten(text: str, length: int) -> str:
    """Return the beginning of a name, for where there is little room."""
    text = _MARKS.sub("", unicodedata.normalize("NFC", text))
    if len(text) <= length:
        return plain(text)
    return plain(text[: length - 1].rstrip("\u200d ")) + "…"


@lru_cache(4096)
def initials(text: str) -> str:
    """Return the initials of a name's first words, which stand in for a picture."""
    if not _is_visible(text):
        return "?"
    words = [word for word in re.split(r"[\W_]+", text) if word][:2]
    if words:
        return "".join(word[0].upper()[0] for word in words)
    return next(character for character in text if _is_visible(character))


def colour(key: int) -> str:
    """Return the class of the colour that a team, a member or an award always has."""
    return f"c{key % COLOURS}"


def picture(title: str, key: int, kind: str = "", url: str | None = None) -> Markup:
    """Return the picture of something as HTML: initials, behind the image at a URL if it has one.

    It is not read aloud, since the name is beside it.
    """
    inside = escape(initials(title))
    if url and url.startswith(("https://", request.host_url)):  # what the policy allows
        inside = Markup(f'<img src="{escape(url)}" alt="{inside}" loading="lazy">')
    classes = f"pic {colour(key)} {kind}".rstrip()
    return Markup(f'<span class="{classes}" aria-hidden="true">{inside}</span>')


def who(  # noqa: PLR0913 - a row of a list, made here since a macro takes five times as long
    title: str,
    path: str,
    key: int,
    *,
    kind: str = "",
    url: str | None = None,
    below: str = "",
    narrow: bool = False,
) -> Markup:
    """Return a link to something as HTML, with its picture, and a small line `below` its name.

    That line may be shown only on a narrow page.
    """
    small = f'<span class="small{" narrow" * narrow}">{escape(below)}</span>' if below else ""
    return Markup(
        f'<a class="who" href="{path}{key}">{picture(title, key, kind, url)}'
        f'<span class="words"><span class="name">{name(title)}</span>{small}</span></a>'
    )


def share(value: int, most: int) -> str:
    """Return the share that one value is of another, in percent, as an attribute."""
    return f"{value / most:.1%}"


def number(value: int) -> str:
    """Return a number as people write it."""
    return f"{value:,}"


def many(value: int, noun: str) -> str:
    """Return a number with a noun: 1 award, 2 awards."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def holdings(team: Any) -> str:
    """Return how many awards and members a team has."""
    return f"{many(team.award_count, 'award')} · {many(team.member_count, 'member')}"


def ordinal(value: int) -> str:
    """Return 1st, 2nd, 3rd and so on."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value:,}{'th' if value % 100 in {11, 12, 13} else ending}"


def day(number: int) -> str:
    """Return a day, by its number, as on the axis of a chart: 9 Nov."""
    date = utc(number * _DAY)
    return f"{date.day} {date:%b}"


def date(number: int) -> str:
    """Return a day, by its number, with its year."""
    return f"{day(number)} {utc(number * _DAY).year}"


def when(seconds: float | None) -> Markup:
    """Return a time as HTML, more exact the more recent it is; nothing if it is not known."""
    if seconds is None:
        return Markup()
    past = now() - seconds
    if past < _MINUTE:
        words = "just now"
    elif past < _HOUR:
        words = f"{many(int(past // _MINUTE), 'minute')} ago"
    elif past < _DAY:
        words = f"{many(int(past // _HOUR), 'hour')} ago"
    elif past < 7 * _DAY:
        words = f"{many(int(past // _DAY), 'day')} ago"
    else:
        words = date(int(seconds // _DAY))
    moment = utc(seconds).isoformat(timespec="seconds")
    return Markup(f'<time datetime="{moment}">{words}</time>')


FILTERS: list[Callable[..., Any]] = [
    name,
    plain,
    shorten,
    initials,
    picture,
    who,
    share,
    colour,
    number,
    many,
    holdings,
    ordinal,
    day,
    date,
    when,
]
"""The functions that templates can use."""


def _is_visible(text: str) -> bool:
    return any(
        unicodedata.category(character)[0] in "LNPS" and character not in _BLANK_LETTERS
        for character in text
    )
