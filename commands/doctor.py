"""`flask doctor`: looks for problems, and says how to fix them."""

import platform

import click
from flask import current_app
from flask.cli import with_appcontext

from commands.checks import (
    OK,
    PROBLEM,
    WARNING,
    Finding,
    check_apps,
    check_configuration,
    check_database,
)
from commands.groups import writing
from config import VERSION, settings
from database import db

COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}


@click.command("doctor")
@with_appcontext
@click.pass_context
def doctor(context: click.Context) -> None:
    """Look for problems, and say how to fix them. The exit status is 1 if there are any.

    Changes nothing, and can be run while the server runs.
    """
    version = Finding(OK, f"This is Laurels {VERSION}, on Python {platform.python_version()}.")
    findings = [version, *check_configuration(settings()), *check_database()]
    with writing():
        for level, text in findings:
            click.echo(f"{click.style(f'{level:8}', fg=COLOURS[level])} {text}")
    context.exit(int(any(level == PROBLEM for level, _ in findings)))


def log_start() -> None:
    """Log what a starting server uses, and what is missing."""
    url = db.engine.url.set(query={}).render_as_string(hide_password=True)
    signups = "open" if settings().signups_open else "closed"
    current_app.logger.info("Laurels %s: database %s, signups %s", VERSION, url, signups)
    with db.engine.connect() as connection:
        findings = [*check_configuration(settings()), check_apps(connection)]
    db.engine.dispose()  # no connection may cross the fork into a worker
    for level, text in findings:
        if level != OK:
            current_app.logger.warning(text)
