"""What all command groups share."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from flask.cli import AppGroup

from commands.checks import exit_on_errors, require_current_schema
from database import transaction


class Commands(AppGroup):
    """A group of commands, each of which returns the text that it prints."""

    def text_command(self, name: str) -> Callable[[Callable[..., str]], click.Command]:
        """Make a command that runs in one write transaction and prints once that is committed."""

        def decorator(function: Callable[..., str]) -> click.Command:
            @wraps(function)
            def run(*values: Any, **options: Any) -> None:
                require_current_schema()
                with exit_on_errors(), transaction(write=True):
                    text = function(*values, **options)
                if text:
                    click.echo(text)

            command: click.Command = self.command(name)(run)
            return command

        return decorator


def table(*rows: tuple[object, ...]) -> str:
    """Lay out rows of values, the first being the headings, in columns."""
    widths = [max(len(str(value)) for value in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            str(value).ljust(width) for value, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
