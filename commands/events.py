"""`flask events`: the log of events."""

import json
import select
import sys
from collections.abc import Sequence
from contextlib import suppress

import click
from sqlalchemy import Select, or_

from commands.checks import exit_on_errors, require_current_schema
from commands.groups import Commands, table, writing
from database import db, transaction
from models import MAX_ID, Event, EventType, LogType, utc
from permissions import Permission, labels_of

events = Commands("events", help="Read the log of events.")

ID = click.IntRange(1, MAX_ID)
HEADINGS = {
    "TIME": 19,
    "EVENT": 19,
    "BY": 12,
    "ACCOUNT": 19,
    "TEAM": 4,
    "LEFT TEAM": 9,
    "AWARD": 5,
    "APP": 3,
    "CHANGED": 11,
    "GRANTED": 15,
    "REVOKED": 15,
}
"""The columns with their minimum widths, so that later lines are aligned with them."""

TYPES = [kind.value for kind in (*EventType, *LogType)]

POLL = 1000
"""How many milliseconds to wait before looking at the log again."""


@events.command("list")
@click.option("--account", type=ID, metavar="ID", help="Only events about this account.")
@click.option("--team", type=ID, metavar="ID", help="Only events about, or in, this team.")
@click.option("--award", type=ID, metavar="ID", help="Only events about this award.")
@click.option(
    "--type", "kind", type=click.Choice(TYPES), metavar="TYPE", help="Only events of this type."
)
@click.option(
    "--limit", type=ID, default=1000, show_default=True, help="Only this many, the newest."
)
@click.option("--follow", is_flag=True, help="Keep printing new events until Ctrl-C.")
def list_events(  # noqa: PLR0913, PLR0917 - click passes each option
    account: int | None,
    team: int | None,
    award: int | None,
    kind: str | None,
    limit: int,
    follow: bool,
) -> None:
    """List events, newest last, with times in UTC.

    CHANGED names an app's callbacks by their types of events.
    """
    require_current_schema()
    wanted = db.select(Event)
    for column, value in (
        (Event.account_id, account),
        (Event.award_id, award),
        (Event.type, kind),
    ):
        if value is not None:
            wanted = wanted.where(column == value)
    if team is not None:
        wanted = wanted.where(or_(Event.team_id == team, Event.left_team_id == team))
    with suppress(KeyboardInterrupt):
        found = _read(wanted.order_by(Event.id.desc()).limit(limit))[::-1]
        _print(tuple(HEADINGS), *map(_row, found))
        last = found[-1].id if found else 0
        while follow and _somebody_reads():
            if found := _read(wanted.where(Event.id > last).order_by(Event.id)):
                _print(*map(_row, found))
                last = found[-1].id


def _somebody_reads() -> bool:
    """Wait, and return whether anybody still reads standard output, unlike behind `| head`."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)  # without any flag it reports only errors
    return not output.poll(POLL)


def _read(statement: Select[Event]) -> Sequence[Event]:
    with exit_on_errors(), transaction(write=False):
        return db.session.scalars(statement).all()


def _print(*rows: tuple[object, ...]) -> None:
    with writing():
        click.echo(table(*rows, widths=HEADINGS.values()))


def _row(event: Event) -> tuple[object, ...]:
    return (
        f"{utc(event.created_at):%Y-%m-%d %H:%M:%S}",
        event.type,
        event.author,
        event.account_id or "",
        event.team_id or "",
        event.left_team_id or "",
        event.award_id or "",
        event.app_id or "",
        ", ".join(json.loads(event.changed or "[]")),
        labels_of(Permission(event.granted)),
        labels_of(Permission(event.revoked)),
    )
