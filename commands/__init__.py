"""The command line: one file for each command or group of commands."""

from typing import Any

import click
from flask import Flask

from commands import (
    accounts,
    apps,
    backup,
    callbacks,
    doctor,
    events,
    export,
    import_accounts,
    move,
    restore,
    sessions,
)
from commands.checks import stored_schema
from database import db

COMMANDS: tuple[click.Command, ...] = (
    apps.apps,
    accounts.accounts,
    sessions.sessions,
    callbacks.callbacks,
    events.events,
    backup.backup,
    restore.restore,
    move.move,
    export.export,
    import_accounts.import_accounts,
    doctor.doctor,
)


def for_server() -> bool:
    """Return whether the app is for gunicorn or `flask run`, not for a command."""
    context = click.get_current_context(silent=True)
    return context is None or context.info_name == "run"


def init_app(app: Flask) -> None:
    """Add the commands to the app."""
    for command in COMMANDS:
        app.cli.add_command(command)
    if not for_server():
        from flask_migrate import Migrate  # noqa: PLC0415 - Alembic takes 11 MiB, and no server needs it

        Migrate(app, db, directory=f"{app.root_path}/migrations").configure(_refuse_wrong_database)


def _refuse_wrong_database(config: Any) -> Any:
    """Exit `flask db ...` with one line on a newer version's or another program's database."""
    stored_schema()
    return config
