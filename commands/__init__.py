"""The command line: `flask apps ...`, `flask accounts ...`, `flask sessions ...`."""

from flask import Flask

from commands import accounts, apps, sessions


def init_app(app: Flask) -> None:
    """Add the commands to the app."""
    for group in (apps.apps, accounts.accounts, sessions.sessions):
        app.cli.add_command(group)
