"""The command line: one file for each group of commands."""

import click
from flask import Flask

from commands import accounts, apps, callbacks, events, sessions
from database import db


def init_app(app: Flask) -> None:
    """Add the commands to the app."""
    groups = (apps.apps, accounts.accounts, sessions.sessions, callbacks.callbacks, events.events)
    for group in groups:
        app.cli.add_command(group)
    if click.get_current_context(silent=True):
        from flask_migrate import Migrate  # noqa: PLC0415 - Alembic takes 11 MiB, no server needs it

        Migrate(app, db, directory=f"{app.root_path}/migrations")
