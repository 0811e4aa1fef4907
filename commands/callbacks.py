"""`flask callbacks`: the queues of events, and sending them."""

import sys

import click
from flask import current_app
from sqlalchemy import func, select

from callbacks.delivery import Run, count_waiting, deliver_all
from commands.checks import require_current_schema
from commands.groups import Commands, table
from database import db
from models import App, Callback, Delivery, now, utc

callbacks = Commands("callbacks", help="List the events queued for receivers, and send them.")


@callbacks.text_command("list")
def list_callbacks() -> str:
    """List all callbacks: events queued, since when, the last error and the next try."""
    waiting = func.count(Delivery.id)
    rows = db.session.execute(
        select(
            Callback,
            App.name,
            waiting,
            func.min(Delivery.created_at),
            func.min(Delivery.due_at),
            func.max(Delivery.last_error),
        )
        .join(App, App.id == Callback.app_id)
        .outerjoin(Delivery, Delivery.callback_id == Callback.id)
        .group_by(Callback.id, App.name)
        .order_by(App.name, Callback.event)
    )
    return table(
        ("ID", "APP", "EVENT", "WAITING", "SINCE", "NEXT TRY", "URL", "LAST ERROR"),
        *(
            (
                callback.id,
                name,
                callback.event,
                count,
                _moment(since) if since else "",
                _next_try(callback.resting_until or retry_at) if count else "",
                callback.url,
                callback.last_error or error or "",
            )
            for callback, name, count, since, retry_at, error in rows
        ),
    )


@callbacks.command("deliver")
@click.option("--all", "everything", is_flag=True, help="Ignore pauses after failures.")
@click.pass_context
def deliver(context: click.Context, everything: bool) -> None:
    """Send everything that is due. The exit status is 1 if something is still waiting."""
    require_current_schema()
    on_terminal = sys.stderr.isatty()
    if on_terminal:
        current_app.logger.setLevel("WARNING")  # the bar shows each delivery
    with click.progressbar(
        length=count_waiting(), label="Delivering", hidden=not on_terminal, file=sys.stderr
    ) as bar:
        deliver_all(Run(on_delivered=lambda: bar.update(1)), everything=everything)
    if waiting := count_waiting():
        click.echo(f"{waiting} still waiting: `.venv/bin/flask callbacks list` says why.", err=True)
        context.exit(1)


def _moment(moment: float) -> str:
    return f"{utc(moment):%Y-%m-%d %H:%M:%S}"


def _next_try(moment: float | None) -> str:
    return _moment(moment) if moment and moment > now() else "with the next event"
