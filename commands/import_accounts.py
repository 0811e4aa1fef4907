"""`flask import`: accounts from a spreadsheet."""

import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, Any, TypeAlias

import click
import marshmallow as ma
from flask.cli import with_appcontext
from marshmallow import ValidationError
from sqlalchemy import bindparam, insert, select, update

from callbacks.delivery import count_waiting
from callbacks.events import Change, account_change, record
from commands.checks import exit_on_errors, require_current_schema
from commands.spreadsheets import BadTableError, Row, Table, printable
from database import Statement, connection, transaction
from fields import Discriminator, Id, Message, Name, Text, Url
from models import Account, EventType, Team, fold, now
from permissions import ACCOUNT_PERMISSIONS, Permission
from shapes import given_ids

Values: TypeAlias = dict[str, Any]

CREATED = "created_at"
"""A column of `flask export accounts` that nobody can change: it is left alone."""

COLUMNS = ("id", "name", "discriminator", "avatar_url", "team", "team_id", "permissions", CREATED)
NOTHING: Values = {
    "name": "",
    "discriminator": "0",
    "avatar_url": None,
    "permissions": 0,
    "team_id": None,
}
"""What an account is before it is made."""

WHAT = {
    "made": "made",
    "changed": "changed",
    "moved": "moved to another team or none",
    "left": "left as they were",
}
"""What can happen to an account, in words."""

ROWS_AT_ONCE = 500
IN_MEMORY = 2**20
"""Checked rows with more characters than this are in a file until they are stored."""

ROUNDED = re.compile(r"\d+([.,]\d+)?[eE][+]?\d+")


class AccountId(Id):
    """A Discord id, as spreadsheets should have it."""

    default_error_messages = {
        "rounded": Message(
            "A spreadsheet has rounded this id. Format the column as text before entering ids."
        )
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if ROUNDED.fullmatch(value):
            raise self.make_error("rounded")
        return super()._deserialize(value, attr, data, **kwargs)


class PermissionNames(Text):
    """Permissions by their names, with commas between them."""

    default_error_messages = {
        "unknown": Message("There is no permission `{name}`."),
        "apps_only": Message("The permission `{name}` is for apps, not for accounts."),
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        held = Permission(0)
        for name in re.split(r"[\s,;]+", value.strip(" ,;")):
            permission = Permission.__members__.get(name.upper())
            if permission is None or name != name.lower():
                raise self.make_error("unknown", name=name)
            if permission not in ACCOUNT_PERMISSIONS:
                raise self.make_error("apps_only", name=name)
            held |= permission
        return held.value


class AccountRow(ma.Schema):
    """The content of a row about an account; an empty cell means none."""

    id = AccountId(required=True)
    name = Name(required=True)
    discriminator = Discriminator(load_default="0")
    avatar_url = Url(load_default=None)
    team = Name(load_default=None)
    team_id = Id(load_default=None)
    permissions = PermissionNames(load_default=0)


class Teams:
    """The teams by their names and ids, and those that are to be made."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.names: dict[int, str] = {}
        self.ids: dict[str, list[int]] = defaultdict(list)
        for team in _TEAMS.all():
            self.names[team.id] = team.name
            self.ids[team.name].append(team.id)

    def find(self, name: str | None, team_id: int | None) -> int | str | None:
        """Return the id of the team that a row names, or the name of one that is to be made.

        Raises `ValidationError` if that cannot be told.
        """
        if team_id is not None:
            called = self.names.get(team_id)
            if called is None:
                raise ValidationError("There is no such team.", "team_id")
            if name not in {None, called}:
                raise ValidationError(
                    f"The team {team_id} is called {called}: leave this or `team_id` empty.", "team"
                )
            return team_id
        ids = self.ids.get(name or "", ())
        if len(ids) > 1:
            raise ValidationError(
                f"These teams have this name: {', '.join(map(str, ids))}. Name one by `team_id`.",
                "team",
            )
        return ids[0] if ids else name

    def make(self, name: str) -> int:
        """Make a team; return its id."""
        values = {"name": name, "search_name": fold(name), "created_at": now()}
        team: int = _INSERT_TEAM.value(**values)
        self.names[team] = name
        self.ids[name].append(team)
        self.made.append(name)
        record(EventType.TEAM_CREATE, [team])
        return team


_TEAMS = Statement(select(Team.id, Team.name).order_by(Team.id))
_INSERT_TEAM = Statement(
    insert(Team)
    .values({name: bindparam(name) for name in ("name", "search_name", "created_at")})
    .returning(Team.id)
)
_EXISTING = Statement(
    select(Account.id, *(getattr(Account, name) for name in NOTHING)).where(
        Account.id.in_(given_ids())
    )
)
_UPDATE = (
    update(Account)
    .where(Account.id == bindparam("key"))
    .values({name: bindparam(name) for name in (*NOTHING, "search_name")})
)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Make all changes, report them, and undo them.")
@with_appcontext
def import_accounts(file: Path, dry_run: bool) -> None:
    """Create, change and move the accounts in FILE, a CSV in UTF-8, all or nothing.

    Its first line names the columns: `id` and `name`, and optionally `discriminator`, `avatar_url`,
    `team` (a name; a new one creates a team) or `team_id`, and `permissions` (names separated by
    commas). An existing account is changed to match its row, where an empty cell means none; a
    missing column changes nothing. Output of `flask export accounts` can be imported unchanged.
    """
    require_current_schema()
    try:
        with (
            SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8") as checked,
            file.open(encoding="utf-8-sig", newline="") as stream,
            exit_on_errors(),
        ):
            table = Table(stream, required=("id", "name"), known=COLUMNS)
            _check(table, stream, checked)
            checked.seek(0)
            done = _store(checked, set(table.columns), keep=not dry_run)
    except ValidationError:  # of teams, which were good when they were checked
        raise click.ClickException("The teams were changed meanwhile. Import it again.") from None
    except BadTableError as error:
        reason = printable(str(error))
        raise click.ClickException(f"Nothing was imported from {file}. {reason}") from None
    except OSError as error:
        raise click.ClickException(f"{file} or {gettempdir()}: {error.strerror}.") from None
    click.echo(done)


def _check(table: Table, stream: IO[str], checked: IO[str]) -> None:
    """Check all rows and write them down, ROWS_AT_ONCE on a line.

    Raises `BadTableError` after it has named all bad cells. The progress is shown here, since
    nothing is locked yet: a terminal may be paused.
    """
    size = os.fstat(stream.fileno()).st_size
    bar = click.progressbar(
        length=size, label="Checking", hidden=not sys.stderr.isatty(), file=sys.stderr
    )
    bad = 0
    with SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8") as complaints:
        try:
            with bar:
                for rows, messages in _batches(table):
                    complaints.writelines(messages)
                    bad += len(messages)
                    checked.write(json.dumps(rows) + "\n")
                    bar.update(os.lseek(stream.fileno(), 0, os.SEEK_CUR) - bar.pos)
        finally:
            complaints.seek(0)
            for line in complaints:
                click.echo(line, nl=False, err=True)
    if bad:
        raise BadTableError(f"Bad cells: {bad}.")


def _batches(table: Table) -> Iterator[tuple[list[Values], list[str]]]:
    """Return what rows say, ROWS_AT_ONCE at a time, and the lines that name their bad cells."""
    teams, schema = Teams(), AccountRow()
    lines: dict[int, int] = {}
    rows = iter(table)
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        said, complaints = [], []
        for row in batch:
            values, messages = _check_row(row, schema, teams)
            if key := values.get("id"):
                if key in lines:
                    messages.append(("id", f"Line {lines[key]} has the same."))
                lines.setdefault(key, row.line)
            said.append(values)
            complaints += [
                f"Line {row.line}, {column}: {printable(message)}\n" for column, message in messages
            ]
        yield said, complaints


def _check_row(row: Row, schema: AccountRow, teams: Teams) -> tuple[Values, list[tuple[str, str]]]:
    """Return what a row says, and what is bad about which of its columns."""
    messages: list[tuple[str, str]] = []
    cells = {name: cell for name, cell in row.cells.items() if name != CREATED}
    try:
        values: Values = schema.load(cells)
    except ValidationError as error:
        values = error.valid_data if isinstance(error.valid_data, dict) else {}
        found: Any = error.messages
        messages += [(name, " ".join(texts)) for name, texts in found.items()]
    try:
        teams.find(values.get("team"), values.get("team_id"))
    except ValidationError as error:
        messages.append((str(error.field_name), " ".join(error.messages)))
    if row.extra:
        messages.append(("after the last column", f"There are more cells: {', '.join(row.extra)}"))
    return values, messages


class _DryRunError(Exception):
    """What undoes a dry run."""


def _store(checked: IO[str], columns: set[str], *, keep: bool) -> str:
    """Store what was checked, in one transaction; return what was done."""
    counts: Counter[str] = Counter()
    with suppress(_DryRunError), transaction(write=True):
        teams, before = Teams(), count_waiting()
        for line in checked:
            _store_rows(json.loads(line), columns, teams, counts)
        waiting = count_waiting() - before
        if not keep:
            raise _DryRunError
    done = [
        f"Accounts: {', '.join(f'{counts[what]} {words}' for what, words in WHAT.items())}.",
        f"Teams made: {', '.join(teams.made) or 'none'}.",
    ]
    if not keep:
        done.append("This was a dry run: nothing was kept.")
    elif waiting:
        done.append(
            f"Deliveries queued: {waiting}. `.venv/bin/flask callbacks deliver` sends them now."
        )
    return "\n".join(done)


def _store_rows(rows: list[Values], columns: set[str], teams: Teams, counts: Counter[str]) -> None:
    """Make or change the accounts of some rows, and record what happened to them."""
    ids = json.dumps([row["id"] for row in rows])
    existing = {account.id: account._asdict() for account in _EXISTING.all(ids=ids)}
    new, changed = [], []
    happened = _Happened()
    for row in rows:
        before = existing.get(row["id"])
        after = _after(row, before or NOTHING | {"id": row["id"]}, columns, teams)
        stored = after | {"search_name": fold(after["name"])}
        if before is None:
            new.append(stored | {"created_at": now()})
        elif after != before:
            changed.append(stored | {"key": row["id"]})
        counts.update(happened.note(before, after))
    if new:
        connection().execute(insert(Account), new)
    if changed:
        connection().execute(_UPDATE, changed)
    happened.record()


def _after(row: Values, before: Values, columns: set[str], teams: Teams) -> Values:
    """Return what an account is to be.

    `manage_own_team` stays behind in a team that it leaves, unless its row gives it for another.
    """
    after = before | {name: row[name] for name in before.keys() & row.keys() & columns}
    if {"team", "team_id"} & columns:
        team = teams.find(row["team"], row["team_id"])
        after["team_id"] = teams.make(team) if isinstance(team, str) else team
    moves = after["team_id"] != before["team_id"]
    if moves and (after["team_id"] is None or "permissions" not in columns):
        after["permissions"] &= ~Permission.MANAGE_OWN_TEAM.value
    return after


class _Happened:
    """What happened to accounts, so that those to which the same happened are recorded together."""

    def __init__(self) -> None:
        self.made: dict[int, list[int]] = defaultdict(list)
        self.moved: dict[tuple[int | None, int | None], list[int]] = defaultdict(list)
        self.changed: dict[Change, list[int]] = defaultdict(list)

    def note(self, before: Values | None, after: Values) -> Iterator[str]:
        """Note what happened to an account, and return it in words."""
        key, team = after["id"], after["team_id"]
        left = before["team_id"] if before else None
        if team != left:
            self.moved[team, left].append(key)
        if before is None:
            self.made[after["permissions"]].append(key)
            yield "made"
            return
        if team != left:
            yield "moved"
        if (change := account_change(before, after)).changed:
            self.changed[change].append(key)
            yield "changed"
        if before == after:
            yield "left"

    def record(self) -> None:
        """Record it, in the order in which one request's events come."""
        for granted, ids in self.made.items():
            record(EventType.ACCOUNT_CREATE, ids, granted=granted)
        for (team, left), ids in self.moved.items():
            record(EventType.ACCOUNT_TEAM_UPDATE, ids, team_id=team, left_team_id=left)
        for change, ids in self.changed.items():
            record(EventType.ACCOUNT_UPDATE, ids, **change._asdict())
