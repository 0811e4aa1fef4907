"""`flask events`: the log of who did what to whom."""

import click
from sqlalchemy import or_, select

from commands.groups import Commands, table
from database import db
from models import MAX_ID, Event, utc

events = Commands("events", help="Read the log of who did what to whom.")

ID = click.IntRange(1, MAX_ID)


@events.text_command("list")
@click.option("--account", type=ID, metavar="ID", help="Only what happened to this account.")
@click.option("--team", type=ID, metavar="ID", help="Only what happened to, or in, this team.")
@click.option("--limit", type=ID, default=1000, show_default=True, help="Only the newest.")
def list_events(account: int | None, team: int | None, limit: int) -> str:
    """List events, the newest last, with times in UTC."""
    statement = select(Event).order_by(Event.id.desc()).limit(limit)
    if account is not None:
        statement = statement.where(Event.account_id == account)
    if team is not None:
        statement = statement.where(or_(Event.team_id == team, Event.left_team_id == team))
    return table(
        ("TIME", "EVENT", "BY", "ACCOUNT", "TEAM", "LEFT TEAM", "AWARD"),
        *(
            (
                f"{utc(event.created_at):%Y-%m-%d %H:%M:%S}",
                event.type,
                event.author,
                event.account_id or "",
                event.team_id or "",
                event.left_team_id or "",
                event.award_id or "",
            )
            for event in reversed(db.session.scalars(statement).all())
        ),
    )
