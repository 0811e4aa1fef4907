"""`flask import`: accounts from a spreadsheet, all or nothing."""

import os
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from commands.import_accounts import COLUMNS, AccountId, _check
from permissions import APP_PERMISSIONS, Permission
from tests.api.test_history import Watcher
from tests.commands.test_export import written
from tests.support.community import As, Community
from tests.support.databases import Database
from tests.support.receiver import SECRET
from tests.support.server import BIN, ROOT, environment


class Importer:
    """Imports files, and reads the accounts."""

    def __init__(self, community: Community, as_: As, folder: Path) -> None:
        self.community, self.file = community, folder / "accounts.csv"
        self.bot = as_(community.bot(APP_PERMISSIONS))

    def run(self, content: str | bytes, *options: str) -> Result:
        self.file.write_bytes(content if isinstance(content, bytes) else content.encode())
        run = self.community.app.test_cli_runner().invoke
        return run(args=["import", str(self.file), *options])

    def done(self, content: str | bytes, *options: str) -> str:
        """Import a good file; return the output."""
        result = self.run(content, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        return str(result.stdout)

    def refused(self, content: str | bytes) -> list[str]:
        """Import a bad file; return the output without the name of the file."""
        before = self.community.dump()
        result = self.run(content)
        assert (result.exit_code, result.stdout) == (1, "")
        assert self.community.dump() == before
        return [line.replace(f" from {self.file}", "") for line in result.stderr.splitlines()]

    def accounts(self) -> list[tuple[Any, ...]]:
        """Return all accounts, by id."""
        data = self.bot("GET", "/accounts/search?per_page=1000").get_json()["data"]
        return sorted(
            (
                int(one["id"]),
                one["name"],
                one["discriminator"],
                one["avatar_url"],
                one["team"] and one["team"]["name"],
                one["permissions"],
            )
            for one in data
        )


@pytest.fixture
def importer(community: Community, as_: As, tmp_path: Path) -> Importer:
    """Return an importer into a database with an app in it."""
    return Importer(community, as_, tmp_path)


def said(
    made: int = 0, changed: int = 0, moved: int = 0, left: int = 0, teams: str = "none"
) -> str:
    """Return the report of an import."""
    return (
        f"Accounts: {made} made, {changed} changed, {moved} moved to another team or none, "
        f"{left} left as they were.\nTeams made: {teams}.\n"
    )


ALL = (
    "id,name,discriminator,avatar_url,team,permissions\n"
    '10,Ann,7,https://x/1.png,Red,"manage_teams, manage_own_team"\n'
    "9223372036854775807,Bé 月,,,Blue,\n"
    "11,Cid,0,,,\n"
)
ALL_STORED = [
    (10, "Ann", "0007", "https://x/1.png", "Red", 40),
    (11, "Cid", "0", None, None, 0),
    (2**63 - 1, "Bé 月", "0", None, "Blue", 0),
]


def test_making_changing_moving(importer: Importer, community: Community) -> None:
    community.team("Blue")
    assert importer.done(ALL) == said(made=3, teams="Red")
    assert importer.accounts() == ALL_STORED
    before = community.dump()
    assert importer.done(ALL) == said(left=3)
    assert community.dump() == before
    changes = "id,name,team_id\n10,Anna,\n11,Cid,1\n12,Dot,2\n"
    assert importer.done(changes) == said(made=1, changed=1, moved=2)
    assert importer.accounts() == [
        (10, "Anna", "0007", "https://x/1.png", None, 8),
        (11, "Cid", "0", None, "Blue", 0),
        (12, "Dot", "0", None, "Red", 0),
        ALL_STORED[2],
    ]
    assert importer.done("name,id\nAnn,10\n") == said(changed=1)
    assert importer.accounts()[0] == (10, "Ann", "0007", "https://x/1.png", None, 8)


@pytest.mark.parametrize(
    "content",
    [
        ALL.encode("utf-8-sig"),
        ALL.replace("\n", "\r\n").encode(),
        ALL.replace(",", ";").replace("teams;", "teams,"),
        ALL.replace("id,name", " ID , Name "),
        ALL.replace("\n", "\n\n,,,,,\n"),
        ALL.removesuffix("\n"),
        ALL.replace("\n", ";;\n").replace(",", ";").replace("teams;", "teams,"),
    ],
    ids=[
        "byte order mark",
        "CRLF",
        "semicolons",
        "headings",
        "empty rows",
        "no last end of line",
        "too many semicolons",
    ],
)
def test_what_spreadsheets_write(importer: Importer, content: str | bytes) -> None:
    assert importer.done(content) == said(made=3, teams="Red, Blue")
    assert importer.accounts() == ALL_STORED


def test_a_dry_run(importer: Importer, community: Community) -> None:
    community.account(11, name="Old")
    before = community.dump()
    expected = said(made=2, changed=1, teams="Red, Blue")
    assert importer.done(ALL, "--dry-run") == f"{expected}This was a dry run: nothing was kept.\n"
    assert community.dump() == before
    assert importer.done(ALL) == expected


def test_what_was_exported(importer: Importer, community: Community) -> None:
    """It can be imported as it is, anywhere, and changes nothing where it was exported."""
    red = community.team("=Red; -1")
    names = ("=1+1", "'=1", "''@x", "a;=b", " +1", "'plain", "Ré 月", '"quoted", name', "-")
    for key, name in enumerate(names, 10):
        owns = Permission.MANAGE_OWN_TEAM | Permission.MANAGE_AWARDS
        held = owns if key % 3 else Permission(0)
        community.account(key, red if key % 2 else None, held, name=name)
    exported = written(community.app, "accounts")
    there, records = importer.accounts(), community.dump()["accounts"]
    assert importer.done(exported) == said(left=len(names))
    for key in range(10, 10 + len(names)):
        importer.bot("DELETE", f"/account/{key}")
    assert importer.done(exported) == said(made=len(names))
    assert importer.accounts() == there
    assert [row[0] for row in community.dump()["accounts"]] == [row[0] for row in records]


def test_owners_of_teams(importer: Importer, community: Community) -> None:
    """The permission stays behind in a team that is left, unless the row grants it."""
    red, blue = community.team("Red"), community.team("Blue")
    for key in (10, 11, 12, 13):
        community.account(key, red, Permission.MANAGE_OWN_TEAM, name="x")
    community.account(14, None, Permission.MANAGE_OWN_TEAM, name="x")
    importer.done(f"id,name,team_id\n10,x,{blue}\n11,x,{red}\n12,x,\n14,x,\n")
    importer.done(f"id,name,team_id,permissions\n13,x,{blue},manage_own_team\n")
    assert [row[4:] for row in importer.accounts()] == [
        ("Blue", 0),
        ("Red", 32),
        (None, 0),
        ("Blue", 32),
        (None, 32),
    ]


def test_owners_of_no_team(importer: Importer, community: Community, as_: As) -> None:
    """A row without a team gives the permission where the same request to the API does."""
    red = community.team("Red")
    host = as_(community.user(1, ~Permission.AUTHENTICATE_USERS))
    for key in (10, 20):
        community.account(key, red, name="x")
    for key in (11, 21):
        community.account(key, name="x")
    grant = {"team": 0, "grant_permissions": 32}
    new = {"id": 12, "name": "x", "discriminator": "0", "permissions": 32}
    assert host("PATCH", "/account/10", grant).status_code == 200
    assert host("PATCH", "/account/11", grant).status_code == 200
    assert host("POST", "/accounts/new", new).status_code == 201
    importer.done(
        "id,name,team,permissions\n"
        "20,x,,manage_own_team\n21,x,,manage_own_team\n22,x,,manage_own_team\n"
    )
    given = [row[4:] for row in importer.accounts()[1:]]
    assert given == 2 * [(None, 0), (None, 32), (None, 32)]


def test_the_log_and_the_deliveries(
    importer: Importer, community: Community, as_: As, tmp_path: Path
) -> None:
    red, blue = community.team("Red"), community.team("Blue")
    community.account(10, red, Permission.MANAGE_OWN_TEAM | Permission.MANAGE_TEAMS, name="Ann")
    community.account(11, red, name="Bob")
    listened = ("account_create", "account_update", "account_team_update", "team_create")
    for event in listened:
        importer.bot("PUT", f"/callback/{event}", {"url": "http://127.0.0.1:1", "secret": SECRET})
    first = importer.bot("GET", "/events").get_json()["last"]
    content = (
        "id,name,team,permissions\n"
        "10,Anna,Blue,manage_awards\n11,Bob,Red,\n12,Cid,New,manage_teams\n"
    )
    waiting = "Deliveries queued: 5. `.venv/bin/flask callbacks deliver` sends them now.\n"
    assert importer.done(content) == said(1, 1, 1, 1, "New") + waiting
    events = importer.bot("GET", f"/events?after={first}").get_json()["events"]
    columns = ("type", "account", "team", "left_team", "changed", "granted", "revoked")
    told = [tuple(event[column] for column in columns) for event in events]
    assert {event["author"] for event in events} == {"command line"}
    assert told == [
        ("team_create", None, 3, None, None, 0, 0),
        ("account_create", "12", None, None, None, 8, 0),
        ("account_team_update", "10", blue, red, None, 0, 0),
        ("account_team_update", "12", 3, None, None, 0, 0),
        ("account_update", "10", None, None, ["name", "permissions"], 64, 40),
    ]
    file = tmp_path / "more.csv"
    file.write_text("id,name,team\n10,Ann,Red\n13,Dot,Newer\n")
    Watcher(community, as_).command("import", str(file))


def test_every_bad_cell_is_named(importer: Importer, community: Community) -> None:
    for _ in range(2):
        community.team("Twin")
    red = community.team("Red")
    long = "x" * 256
    assert importer.refused(
        "id,name,discriminator,avatar_url,team,team_id,permissions\n"
        ",Ann,,,,,\n"
        "8.03E+16,Ann,,,,,\n"
        "x1,,,,,,\n"
        "10,   ,,,,,\n"
        f"11,{long},12345,,,,\n"
        '12,"two\nlines",,,,,\n'
        "13,Ann,,ftp://x,,,\n"
        "14,Ann,,,Twin,,manage_everything\n"
        "15,Ann,,,,99,authenticate_users\n"
        f"16,Ann,,,Blue,{red},\n"
        "17,Ann,,,,,,over,\n"
        "17,Ann,,,,,Manage_Teams\n"
        "18,Ann,,,,,\n"
    ) == [
        "Line 2, id: This field is required.",
        f"Line 3, id: {AccountId.default_error_messages['rounded']}",
        "Line 4, id: This must be a whole number from 1 to 9223372036854775807.",
        "Line 4, name: This field is required.",
        "Line 5, name: This must not be blank.",
        "Line 6, name: This must have 1 to 255 characters.",
        "Line 6, discriminator: This must be up to 4 digits.",
        "Line 7, name: This must not contain control characters or surrogates.",
        "Line 9, avatar_url: This must be an absolute http or https URL.",
        "Line 10, permissions: There is no permission `manage_everything`.",
        "Line 10, team: These teams have this name: 1, 2. Name one by `team_id`.",
        "Line 11, permissions: The permission `authenticate_users` is for apps, not for accounts.",
        "Line 11, team_id: There is no such team.",
        f"Line 12, team: The team {red} is called Red: leave this or `team_id` empty.",
        "Line 13, after the last column: There are more cells: over",
        "Line 14, permissions: There is no permission `Manage_Teams`.",
        "Line 14, id: Line 13 has the same.",
        "Error: Nothing was imported. Bad cells: 17.",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "It is empty: its first line must name the columns."),
        ("\n10,Ann\n", "It is empty: its first line must name the columns."),
        ("name\nAnn\n", "Its first line, which names the columns, has no `id`."),
        ("id\n10\n", "Its first line, which names the columns, has no `name`."),
        ("10,Ann\n", "Its first line, which names the columns, has no `id`."),
        (
            "id,name,mail\n10,Ann,x\n",
            f"The column `mail` is unknown. The known ones are: {', '.join(COLUMNS)}.",
        ),
        (
            "id,name,\x1b[31m\n",
            f"The column `\\x1b[31m` is unknown. The known ones are: {', '.join(COLUMNS)}.",
        ),
        ("id,name,ID\n10,Ann,10\n", "Two columns are called `id`."),
        ("id,name\n10,Ré\n".encode("latin-1"), "It is not UTF-8: save it as CSV in UTF-8."),
        ("id,name\n".encode("utf-16"), "It is not UTF-8: save it as CSV in UTF-8."),
        (
            'id,name\n10,Ann\n11,"Bob\n12,Cid\n',
            "Line 3: a quote is opened and never closed.",
        ),
        ('id,name\n10,"An"n"\n', "Line 2: ',' expected after '\"'."),
    ],
)
def test_no_such_table(importer: Importer, content: str | bytes, expected: str) -> None:
    assert importer.refused(content) == [f"Error: Nothing was imported. {expected}"]


def test_nothing_of_a_file_reaches_the_terminal_raw(importer: Importer) -> None:
    """Neither colours nor changes of the direction of writing."""
    first = importer.refused("id,name,permissions\n7,a,\x1b[31m\u202eq\n")[0]
    assert first == "Line 2, permissions: There is no permission `\\x1b[31m\\u202eq`."


def test_progress_on_a_terminal(database: Database, tmp_path: Path) -> None:
    """It ends before anything is locked, since a terminal may be paused."""
    file = tmp_path / "accounts.csv"
    file.write_text("id,name\n" + "".join(f"{key},Ann\n" for key in range(1, 2000)))
    shown, terminal = os.openpty()
    ran = subprocess.run(
        [BIN / "flask", "import", file],
        cwd=ROOT,
        env=environment(database, TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=terminal,
        check=True,
        text=True,
    )
    os.close(terminal)
    with open(shown, "rb", buffering=0) as screen:  # noqa: PTH123 - no path
        printed = screen.read(4096)
    assert b"Checking  [" in printed
    assert b"100%" in printed
    assert ran.stdout == said(made=1999)


def test_no_file(importer: Importer) -> None:
    run = importer.community.app.test_cli_runner().invoke
    assert run(args=["import", f"{importer.file}"]).exit_code == 2
    assert run(args=["import", f"{importer.file.parent}"]).exit_code == 2


def test_with_signups_closed(make_app: Any, tmp_path: Path, as_: As) -> None:
    community = Community(make_app(signups_open=False))
    assert Importer(community, as_, tmp_path).done("id,name\n10,Ann\n") == said(made=1)


def test_teams_that_change_meanwhile(
    importer: Importer, community: Community, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks still hold, or nothing is imported."""
    red = community.team("Red")

    def check(*arguments: Any) -> None:
        _check(*arguments)
        assert importer.bot("DELETE", f"/team/{red}").status_code == 204

    monkeypatch.setattr("commands.import_accounts._check", check)
    result = importer.run(f"id,name,team_id\n10,Ann,{red}\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: The teams were changed meanwhile. Import it again.\n"
    assert importer.accounts() == []


def test_memory_does_not_grow(importer: Importer) -> None:
    def peak(first: int, count: int) -> int:
        rows = "".join(f"{key},{'x' * 200},Red\n" for key in range(first, first + count))
        importer.file.write_text(f"id,name,team\n{rows}")
        del rows
        tracemalloc.start()
        importer.community.app.test_cli_runner().invoke(args=["import", str(importer.file)])
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1, 1)  # things that are loaded once and kept
    few = peak(2, 1000)
    assert peak(1002, 10_000) < few + 9_000 * 150  # a row's id and line are kept
    assert (
        len(importer.bot("GET", "/accounts/search?per_page=1000&page=11").get_json()["data"]) == 1
    )
