"""`flask export`: accounts, teams and awards for a spreadsheet."""

import csv
import sys
from collections.abc import Iterator
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, Any

import click
from flask.cli import with_appcontext
from sqlalchemy import Select, String, cast, func, select

from commands.checks import exit_on_errors, require_current_schema
from commands.groups import writing
from commands.spreadsheets import harmless
from database import connection, transaction
from models import Account, Award, Awardee, Team, utc
from permissions import Permission, labels_of

_MEMBERS = select(func.count()).where(Account.team_id == Team.id).scalar_subquery()
TABLES: dict[str, Select[*tuple[Any, ...]]] = {
    "accounts": select(
        cast(Account.id, String).label("id"),
        Account.name,
        Account.discriminator,
        cast(Account.team_id, String).label("team_id"),
        Team.name.label("team"),
        Account.permissions,
        Account.avatar_url,
        Account.created_at,
    )
    .outerjoin(Team, Team.id == Account.team_id)
    .order_by(Account.id),
    "teams": select(
        cast(Team.id, String).label("id"), Team.name, _MEMBERS.label("members"), Team.created_at
    ).order_by(Team.id),
    "awards": select(
        cast(Award.id, String).label("id"),
        Award.title,
        Award.image_url,
        Award.points,
        Award.created_at,
        cast(Award.team_id, String).label("team_id"),
        Team.name.label("team"),
        cast(Awardee.account_id, String).label("account_id"),
        Account.name.label("account"),
        Awardee.given_at,
    )
    .outerjoin(Team, Team.id == Award.team_id)
    .outerjoin(Awardee, Awardee.award_id == Award.id)
    .outerjoin(Account, Account.id == Awardee.account_id)
    .order_by(Award.id, Awardee.account_id),
}
"""The tables that can be written, and their columns; ids are text."""

ROWS_AT_ONCE = 500
IN_MEMORY = 2**20
"""A table with more characters than this is kept in a file until it is written."""


@click.command("export")
@click.argument("what", type=click.Choice(list(TABLES)))
@with_appcontext
def export(what: str) -> None:
    """Write all accounts, teams or awards as CSV in UTF-8, as of a single moment.

    An award has a row for each of its holders. Text, such as ids, is in quotes; times are in UTC;
    text that a spreadsheet could read as a formula gets an apostrophe in front. The database is
    released before anything is written, so a slow reader holds up nobody.
    """
    require_current_schema()
    try:
        with SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8", newline="") as table:
            with exit_on_errors(), transaction(write=False):
                write(what, table)
            table.seek(0)
            with (
                writing(),
                open(  # in UTF-8, whatever the terminal uses
                    sys.stdout.fileno(), "w", encoding="utf-8", newline="", closefd=False
                ) as stream,
            ):
                copyfileobj(table, stream)
    except BrokenPipeError:
        raise  # click ends the program quietly
    except OSError as error:
        raise click.ClickException(
            f"{gettempdir()} cannot hold the table: {error.strerror}. Set TMPDIR to another folder."
        ) from None


def write(what: str, stream: IO[str]) -> None:
    """Write a table with its headings, holding only part of it in memory."""
    statement = TABLES[what]
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(column.name for column in statement.selected_columns)
    writer.writerows(_rows(statement))


def _rows(statement: Select[*tuple[Any, ...]]) -> Iterator[list[str | int]]:
    for row in connection().execute(statement.execution_options(yield_per=ROWS_AT_ONCE)):
        yield [_cell(name, value) for name, value in row._mapping.items()]  # noqa: SLF001 - public


def _cell(name: str, value: Any) -> str | int:
    if name in {"members", "points"}:
        return int(value)
    if name == "permissions":
        return labels_of(Permission(value))
    if name in {"created_at", "given_at"} and value is not None:
        return utc(value).isoformat(timespec="seconds").replace("+00:00", "Z")
    return harmless(value or "")
