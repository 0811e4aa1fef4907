"""The command line: one file for each group of commands."""

from flask import Flask

from commands import accounts, apps, callbacks, events, sessions


def init_app(app: Flask) -> None:
    """Add the commands to the app."""
    groups = (apps.apps, accounts.accounts, sessions.sessions, callbacks.callbacks, events.events)
    for group in groups:
        app.cli.add_command(group)
