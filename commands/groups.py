"""The parts that all command groups share."""

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import zip_longest
from typing import Any

import click
from flask.cli import AppGroup

from commands.checks import exit_on_errors, require_current_schema
from database import transaction


class Commands(AppGroup):
    """A group of commands, each of which returns the text that it prints."""

    def text_command(self, name: str) -> Callable[[Callable[..., str]], click.Command]:
        """Make a command that runs in one write transaction and prints after its commit."""

        def decorator(function: Callable[..., str]) -> click.Command:
            @wraps(function)
            def run(*values: Any, **options: Any) -> None:
                require_current_schema()
                with exit_on_errors(), transaction(write=True):
                    text = function(*values, **options)
                if text:
                    with writing():
                        click.echo(text)

            command: click.Command = self.command(name)(run)
            return command

        return decorator


@contextmanager
def writing() -> Iterator[None]:
    """Exit with one line if standard output does not accept everything that the block writes.

    If nobody is reading any more, click exits without a line.
    """
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # noqa: TRY301 - as when it breaks
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = None  # its buffer would be tried again at exit
        raise click.ClickException(
            f"The output is incomplete: {error.strerror}. Write it to another place."
        ) from None


def table(*rows: tuple[object, ...], widths: Iterable[int] = ()) -> str:
    """Return rows of values, the first being the headings, in columns that are wide enough."""
    lengths = ([len(str(value)) for value in column] for column in zip(*rows, strict=True))
    widths = [max(pair) for pair in zip_longest(map(max, lengths), widths, fillvalue=0)]
    return "\n".join(
        "  ".join(
            str(value).ljust(width) for value, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
