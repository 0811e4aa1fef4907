"""`flask export`: complete tables, harmless in a spreadsheet."""

import csv
import os
import sqlite3
import subprocess
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from tempfile import gettempdir

import pytest
from flask import Flask
from sqlalchemy import insert, null

from commands.export import write
from database import connection, db, transaction
from models import Account, Awardee
from permissions import Permission
from tests.support.community import Community
from tests.support.databases import Database
from tests.support.server import BIN, ROOT, environment

MOST = 8 * 2**20
MORNING = datetime(2026, 1, 31, 7, 5, 3, 999999, UTC).timestamp()

ACCOUNTS = (
    '"id","name","discriminator","team_id","team","permissions","avatar_url","created_at"\r\n'
    '"10","Ann, ""A""","0001","","","","","2026-01-31T07:05:03Z"\r\n'
    '"9007199254740993","Ré 月","0","1","Red",'
    '"manage_account_details, manage_teams","https://x/?a=1","2026-01-31T07:05:03Z"\r\n'
)
TEAMS = (
    '"id","name","members","created_at"\r\n'
    '"1","Red",1,"2026-01-31T07:05:03Z"\r\n'
    '"2","Blue",0,"2026-01-31T07:05:03Z"\r\n'
)
AWARDS = (
    '"id","title","image_url","points","created_at","team_id","team",'
    '"account_id","account","given_at"\r\n'
    '"1","First","https://example.com/1.png",5,"2026-01-31T07:05:03Z","1","Red",'
    '"10","Ann, ""A""","2026-01-31T07:05:03Z"\r\n'
    '"1","First","https://example.com/1.png",5,"2026-01-31T07:05:03Z","1","Red",'
    '"9007199254740993","Ré 月",""\r\n'
    '"2","Second","https://example.com/1.png",1,"","","","","",""\r\n'
)


def fill(community: Community) -> None:
    """Make a community whose tables are those above."""
    for name in ("Red", "Blue"):
        community.team(name, created_at=MORNING)
    community.account(
        9007199254740993,
        1,
        Permission.MANAGE_TEAMS | Permission.MANAGE_ACCOUNT_DETAILS,
        name="Ré 月",
        discriminator="0",
        avatar_url="https://x/?a=1",
        created_at=MORNING,
    )
    community.account(10, name='Ann, "A"', created_at=MORNING)
    community.award(1, 9007199254740993, 10, points=5, created_at=MORNING)
    community.award(title="Second", created_at=null())
    with community.app.app_context(), transaction(write=True):
        for account, moment in ((10, MORNING), (9007199254740993, None)):
            held = db.update(Awardee).where(Awardee.account_id == account)
            db.session.execute(held.values(given_at=moment))


def add_accounts(app: Flask, ids: Iterable[int]) -> None:
    """Add accounts with long names."""
    name = "x" * 200
    rows = [{"id": key, "name": name, "search_name": name, "discriminator": "0"} for key in ids]
    with app.app_context(), transaction(write=True):
        connection().execute(insert(Account), rows)


def written(app: Flask, what: str) -> str:
    """Return a table exported as text."""
    stream = StringIO(newline="")
    with app.app_context(), transaction(write=False):
        write(what, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("what", "expected"), [("accounts", ACCOUNTS), ("teams", TEAMS), ("awards", AWARDS)]
)
def test_whole_tables(community: Community, what: str, expected: str) -> None:
    fill(community)
    assert written(community.app, what) == expected


def test_the_command(make_app: Callable[..., Flask], database: Database) -> None:
    """It writes UTF-8 in any locale, and ends with one line, or none, if it cannot."""
    fill(Community(make_app()))
    incomplete = "Error: The output is incomplete: {}. Write it to another place.\n"
    command = f"{BIN}/flask export accounts"
    scripts = {
        command: (0, ACCOUNTS, ""),
        f"{{ {command} || echo $? >&2; }} | true": (0, "", "1\n"),
        f"{command} > /dev/full": (1, "", incomplete.format("No space left on device")),
        f"{command} >&-": (1, "", incomplete.format("Bad file descriptor")),
        f"{BIN}/flask doctor > /dev/full": (1, "", incomplete.format("No space left on device")),
        f"{BIN}/flask doctor >&-": (1, "", incomplete.format("Bad file descriptor")),
        f"{BIN}/flask apps list > /dev/full": (
            1,
            "",
            incomplete.format("No space left on device"),
        ),
    }
    running = [
        subprocess.Popen(
            ["bash", "-c", script],  # noqa: S607 - whichever bash is installed
            cwd=ROOT,
            env=environment(database, PYTHONIOENCODING="latin-1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for script in scripts
    ]
    for process, (status, output, errors) in zip(running, scripts.values(), strict=True):
        printed, complaints = process.communicate()
        assert (printed.decode(), complaints.decode()) == (output, errors)
        assert process.returncode == status


def test_no_room_for_the_table(community: Community, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch, suppress(OSError):
        patch.setattr("commands.export.SpooledTemporaryFile", lambda *_, **__: full)
        result = community.app.test_cli_runner().invoke(args=["export", "teams"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {gettempdir()} cannot hold the table: No space left on device. Set TMPDIR to "
        "another folder.\n"
    )


@pytest.mark.sqlite
def test_nobody_reads(make_app: Callable[..., Flask], database: Path) -> None:
    """A paused export keeps no transaction open, so the write-ahead log can start again."""
    app = make_app()
    add_accounts(app, range(1, 1000))
    with subprocess.Popen(
        [BIN / "flask", "export", "accounts"],
        cwd=ROOT,
        env=environment(database),
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.read(1) == b'"'
        with closing(sqlite3.connect(database, timeout=0)) as connection:
            connection.execute("DELETE FROM accounts WHERE id = 1")
            connection.commit()
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert (busy, process.poll()) == (0, None)
        process.stdout.close()


@pytest.mark.sqlite
def test_the_write_ahead_log_shrinks(make_app: Callable[..., Flask], database: Path) -> None:
    """After a reader that kept it from starting again."""
    app, log = make_app(), Path(f"{database}-wal")
    with closing(sqlite3.connect(database)) as reader:
        add_accounts(app, [1])
        reader.execute("BEGIN").execute("SELECT count(*) FROM accounts").fetchone()
        add_accounts(app, range(2, 25_000))
        grown = log.stat().st_size
        reader.rollback()
        reader.execute("PRAGMA wal_checkpoint")
    add_accounts(app, [25_000])
    assert grown > 2 * MOST
    assert log.stat().st_size <= MOST


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("  =1", "'  =1"),
        ("\u3000\u00a0=1", "'\u3000\u00a0=1"),
        ("\u200b\ufeff=1", "'\u200b\ufeff=1"),
        ("＝1", "'＝1"),
        ("＋1", "'＋1"),
        ("－1", "'－1"),
        ("＠x", "'＠x"),
        ("﹦1", "'﹦1"),
        ("a;=1", "a;'=1"),
        ("a; -1;b", "a;' -1;b"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("\nx", "'\nx"),
        ("a=b", "a=b"),
        ("a-b@c", "a-b@c"),
        ("'=1", "''=1"),
        ("''x", "''x"),
        (" ;", " ;"),
        ('"=1', '"=1'),
    ],
)
def test_no_cell_is_a_formula(community: Community, name: str, cell: str) -> None:
    community.team(name)
    _, row = csv.reader(StringIO(written(community.app, "teams"), newline=""))
    assert row[1] == cell


def test_memory_does_not_grow(community: Community) -> None:
    def peak(first: int, count: int) -> int:
        add_accounts(community.app, range(first, first + count))
        with open(os.devnull, "w") as stream:  # noqa: PTH123 - no path
            tracemalloc.start()
            with community.app.app_context(), transaction(write=False):
                write("accounts", stream)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return most

    peak(1, 1)  # things that are loaded once and kept
    few = peak(2, 600)
    assert peak(602, 5000) < few * 1.5
