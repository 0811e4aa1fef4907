"""`flask restore`: the old database is kept, whatever happens, and nothing else runs."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import requests
from flask import Flask

from commands.checks import current_schema
from tests.support.databases import Database, connected
from tests.support.server import BIN, ROOT, Server, command, environment
from tests.system.test_start import start

pytestmark = pytest.mark.sqlite  # PostgreSQL has `pg_restore`

README = (ROOT / "README.md").read_text()
NEWER = (
    "The database is from a newer version of Laurels: its schema is 9000, this version's "
    f"{current_schema()}. Upgrade Laurels, or restore an older backup: "
    "`.venv/bin/flask restore FILE`.\n"
)


@pytest.fixture
def backup(empty_database: Path, tmp_path: Path) -> Path:
    """Return a backup that has the account 1."""
    backup = Path(shutil.copy(empty_database, tmp_path / "backup.sqlite3"))
    add(backup, 1)
    return backup


@pytest.fixture
def database(database: Path) -> Path:
    """Return a database that has the account 2."""
    add(database, 2)
    return database


def add(database: Path, key: int) -> None:
    """Add an account."""
    with connected(database) as connection:
        connection.exec_driver_sql(
            "INSERT INTO accounts VALUES (?, '0', NULL, NULL, 0, 0, 'a', 'a')", (key,)
        )


def accounts(database: Path) -> list[int]:
    """Return the ids of the accounts in an intact database."""
    with connected(database) as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        return list(connection.exec_driver_sql("SELECT id FROM accounts ORDER BY id").scalars())


def replaced(database: Path) -> list[Path]:
    """Return the databases that were put away, oldest first."""
    return sorted(database.parent.glob("laurels-replaced-*.sqlite3"))


def names(folder: Path) -> set[str]:
    """Return the names of the files in a folder."""
    return {path.name for path in folder.iterdir()}


def restore(database: Path, backup: Path) -> str:
    """Restore a backup; return the output."""
    run = start("flask", "restore", str(backup), database=database)
    assert (run.returncode, run.stderr) == (0, "")
    assert not {f"laurels.db{end}" for end in ("-wal", "-shm", "-journal")} & names(database.parent)
    assert database.stat().st_mode & 0o777 == 0o600
    return run.stdout


def refused(database: Path, backup: Path) -> str:
    """Fail to restore a backup, and leave everything as it was; return the reason."""
    before = {path: path.read_bytes() for path in database.parent.iterdir()}
    run = start("flask", "restore", str(backup), database=database)
    assert (run.returncode, run.stdout) == (1, "")
    assert {path: path.read_bytes() for path in database.parent.iterdir()} == before
    assert run.stderr.startswith("Error: Nothing was restored: ")
    assert run.stderr.count("\n") == 1
    return run.stderr.removeprefix("Error: Nothing was restored: ")


def test_what_it_does(database: Path, backup: Path) -> None:
    before = backup.read_bytes()
    printed = restore(database, backup)
    (kept,) = replaced(database)
    assert re.fullmatch(r"laurels-replaced-\d{4}(-\d\d){2}-\d{6}\.sqlite3", kept.name)
    assert printed == (
        f"The old database is kept as {kept}.\nRestored {backup} as {database} (0.2 MB).\n"
    )
    assert (accounts(database), accounts(kept)) == ([1], [2])
    assert (backup.read_bytes(), names(backup.parent)) == (before, {backup.name})


def test_the_documentation_pasted_twice(empty_database: Path, tmp_path: Path) -> None:
    """The commands bring back the backup, and no run of them loses anything."""
    database = tmp_path / "instance/laurels.sqlite3"
    database.parent.mkdir()
    shutil.copy(empty_database, database)
    add(database, 1)
    back_up, commands = re.findall(
        r"^(?:\.venv/bin/flask) (?:backup|restore).*$", README, re.MULTILINE
    )
    for text in (back_up, commands):
        assert text in README.split("\n## Back up")[1]

    def paste(text: str) -> None:
        subprocess.run(
            ["bash", "-euc", text.replace(".venv/bin", str(BIN))],  # noqa: S607 - any
            cwd=tmp_path,
            env=environment(database, FLASK_APP=str(ROOT / "app.py")),
            check=True,
        )

    with Server(database) as server:
        paste(back_up)
        add(database, 2)
        server.kill()
    assert database.with_name("laurels.sqlite3-wal").stat().st_size > 0
    (backup,) = tmp_path.glob("laurels-*")
    commands = re.sub(r"laurels-\S+", backup.name, commands)
    paste(commands)
    with Server(database) as server:
        found = requests.get(f"{server.url}/accounts/search", timeout=60).json()["data"]
        assert [account["id"] for account in found] == ["1"]
        add(database, 3)
        server.kill()
    paste(commands)
    assert accounts(database) == [1]
    assert [accounts(kept) for kept in replaced(database)] == [[1, 2], [1, 3]]


def test_while_a_server_runs(server: Server, backup: Path) -> None:
    """It is refused, though the server has no connection to the database yet."""
    assert isinstance(server.database, Path)
    expected = (
        "a server or a command is using the database (or another one in "
        f"{server.database.parent}). Stop it, and try again.\n"
    )
    with Server(server.database) as other:
        assert refused(server.database, backup) == expected
        server.process.terminate()
        server.process.wait()
        assert refused(server.database, backup) == expected
        os.kill(other.process.pid, signal.SIGKILL)  # its worker lingers for a moment
        other.kill()
    restore(server.database, backup)


def test_while_a_command_runs(
    database: Path, backup: Path, tmp_path: Path, make_app: Callable[..., Flask]
) -> None:
    app = make_app()
    link = tmp_path / "folder"
    link.symlink_to(database.parent)
    for path in (database, link / database.name):
        assert "a command is using the database" in refused(path, backup)
    assert app.extensions["settings"]


def test_while_another_program_reads(database: Path, backup: Path) -> None:
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("SELECT * FROM accounts").fetchall()
        run = start("flask", "restore", str(backup), database=database)
        assert "a server or a command is using the database" in run.stderr
    assert (replaced(database), accounts(database)) == ([], [2])


def test_a_server_waits_for_a_restore(database: Path, backup: Path) -> None:
    """One that is started meanwhile serves the restored database."""
    slow = subprocess.Popen(
        [sys.executable, "-c", PAUSING, "restore", str(backup)],
        cwd=ROOT,
        env=environment(database),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert slow.stdout
    while slow.stdout.readline() != "paused\n":
        assert slow.poll() is None
    waiting = subprocess.Popen(
        [BIN / "flask", "accounts", "superuser", "1"],
        cwd=ROOT,
        env=environment(database),
        stdout=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(2)
    slow.communicate("\n")
    assert waiting.communicate()[0] == "a now has all permissions that an account can have.\n"
    assert accounts(database) == [1]


PAUSING = """
import sys
from pathlib import Path

from flask.cli import main

def pause(event, _):
    if event == "os.rename":
        print("paused", flush=True)
        sys.stdin.readline()

sys.addaudithook(pause)
main()
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_a_crash_at_any_step(database: Path, backup: Path, *, damaged: bool) -> None:
    """The database exists, old or new, and so does the old one, with its log."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("UPDATE accounts SET id = 3")
        log = database.with_name("laurels.db-wal")
        wal, main = log.read_bytes(), database.read_bytes()
    log.write_bytes(wal)
    database.write_bytes(b"junk" * 4096 if damaged else main)
    main = database.read_bytes()
    step, done = 0, False
    while not done:
        step += 1
        run = subprocess.run(
            [sys.executable, "-c", CRASHING, str(step), "restore", str(backup)],
            cwd=ROOT,
            env=environment(database),
            check=False,
            capture_output=True,
            text=True,
        )
        done = run.returncode == 0
        for path in database.parent.glob("laurels-replaced-2*"):  # there is none of the same second
            path.rename(path.with_name(path.name.replace("replaced-2", f"replaced-{step}-2")))
        assert done or run.returncode == -signal.SIGKILL, run.stderr
        if damaged:
            kept = [path for path in replaced(database) if path.read_bytes() == main]
            assert database.read_bytes() == main or kept
            logs = [Path(f"{path}-wal") for path in (database, *kept)]
            assert wal in [path.read_bytes() for path in logs if path.exists()]
            assert database.read_bytes() == main or not log.exists()
        else:
            assert accounts(database) in ([3], [1])
            assert [3] in [accounts(path) for path in (database, *replaced(database))]
    assert step == 6
    assert accounts(database) == [1]


CRASHING = """
import os, signal, sys

from flask.cli import main

steps = int(sys.argv.pop(1))

def crash(event, arguments):
    global steps
    if event in {"os.link", "os.remove", "os.rename"} and "laurels" in str(arguments[0]):
        steps -= 1
        if not steps:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(crash)
main()
"""


def test_a_damaged_database_is_kept_with_its_log(database: Path, backup: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{database}{end}").write_bytes(b"junk" * 100)
    restore(database, backup)
    (kept,) = replaced(database)
    assert names(database.parent) == {"laurels.db", kept.name, f"{kept.name}-wal"}
    assert {Path(f"{kept}{end}").read_bytes() for end in ("", "-wal")} == {b"junk" * 100}
    assert accounts(database) == [1]


def test_without_a_database(database: Path, backup: Path) -> None:
    database.unlink()
    assert restore(database, backup) == f"Restored {backup} as {database} (0.2 MB).\n"
    assert accounts(database) == [1]
    missing = database.parent / "no/laurels.db"
    run = start("flask", "restore", str(backup), database=missing)
    assert run.stderr == (
        f"Error: Nothing was restored: No such file or directory ({missing.parent}).\n"
    )


def test_a_database_by_a_link(database: Path, backup: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(database)
    assert start("flask", "restore", str(backup), database=link).returncode == 0
    assert (link.is_symlink(), accounts(database)) == (True, [1])
    assert [accounts(kept) for kept in replaced(database)] == [[2]]


def test_an_older_backup_is_brought_up_to_date(database: Path, blank_database: Path) -> None:
    start("flask", "db", "upgrade", "0001", database=blank_database)
    with connected(blank_database) as connection:
        connection.exec_driver_sql("INSERT INTO apps VALUES (7, 'bot', 0, '2026-01-01', '00')")
    before = blank_database.read_bytes()
    printed = restore(database, blank_database)
    assert f"Upgraded a copy of it from schema 0001 to {current_schema()}.\n" in printed
    assert blank_database.read_bytes() == before
    assert "bot" in start("flask", "apps", "list", database=database).stdout


def test_an_older_backup_that_cannot_be_brought_up_to_date(
    database: Path, blank_database: Path
) -> None:
    start("flask", "db", "upgrade", "0001", database=blank_database)
    with connected(blank_database) as connection:
        connection.exec_driver_sql("DROP TABLE sessions")
    assert refused(database, blank_database) == (
        "the database cannot be brought up to date: no such table: sessions.\n"
    )


def test_a_backup_with_a_log(database: Path, backup: Path) -> None:
    """The log of a copied database is restored, too, and the copy stays as it is."""
    with closing(sqlite3.connect(backup)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        with other:
            other.execute("UPDATE accounts SET id = 4")
        before = {name: (backup.parent / name).read_bytes() for name in names(backup.parent)}
        restore(database, backup)
        assert {name: (backup.parent / name).read_bytes() for name in before} == before
    assert accounts(database) == [4]


def test_what_is_no_good_backup(database: Path, backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    backup.write_bytes(b"no database" * 1000)
    assert refused(database, backup) == f"{backup}: file is not a database.\n"
    backup.write_bytes(b"")
    assert refused(database, backup) == "the file is an empty database.\n"
    backup.write_bytes(whole[: len(whole) // 2])
    assert "malformed" in refused(database, backup)
    backup.write_bytes(whole)
    with closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("INSERT INTO awardees VALUES (7, 8, NULL)")
    assert refused(database, backup) == (
        "the file is damaged: row 1 of awardees refers to a row of awards that does not exist; "
        "row 1 of awardees refers to a row of accounts that does not exist.\n"
    )
    backup.unlink()
    with closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("CREATE TABLE recipes (id)")
    assert refused(database, backup).startswith("This is another program's database: it has a ")
    with closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
    assert refused(database, backup).startswith("This is another program's database: it has a ")
    for missing in (tmp_path / "no.db", tmp_path):
        run = start("flask", "restore", str(missing), database=database)
        assert (run.returncode, accounts(database)) == (2, [2])


def test_a_newer_version(empty_database: Path, database: Path, backup: Path) -> None:
    """It is refused everywhere, by the same line."""
    for path in (database, backup):
        with connected(path) as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9000'")
    assert refused(database, backup) == NEWER
    for arguments in (
        ("gunicorn",),
        ("flask", "run", "--port", "0"),
        ("flask", "db", "upgrade"),
        ("flask", "apps", "list"),
    ):
        run = start(*arguments, database=database, PORT="18471")
        assert (run.returncode, run.stdout, run.stderr) == (1, "", NEWER)
    found = start("flask", "doctor", database=database)
    assert f"problem  {NEWER}" in found.stdout
    assert (found.returncode, found.stdout.count("problem")) == (1, 1)
    restore(database, empty_database)
    assert start("flask", "apps", "list", database=database).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_interrupted(database: Path, backup: Path, number: signal.Signals) -> None:
    before = names(database.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSING.replace("os.rename", "os.link"), "restore", str(backup)],
        cwd=ROOT,
        env=environment(database),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "paused\n"
    process.send_signal(number)
    assert process.communicate() == ("", "\nAborted!\n")
    assert (process.returncode, names(database.parent), accounts(database)) == (1, before, [2])


def test_a_full_disk(database: Path, backup: Path) -> None:
    limited = f"ulimit -f 100; exec {BIN}/flask restore {backup}"
    run = subprocess.run(
        ["bash", "-c", limited],  # noqa: S607 - any
        cwd=ROOT,
        env=environment(database),
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr.startswith("Error: Nothing was restored: File too large (")
    assert (names(database.parent), accounts(database)) == ({"laurels.db"}, [2])


def test_a_clean_end_leaves_one_file(database: Database) -> None:
    """Everything is in the database file, with nothing beside it that a copy could miss."""
    assert isinstance(database, Path)
    with Server(database) as server:
        assert "laurels.db-wal" in names(database.parent)
        server.process.terminate()
        assert server.process.wait() == 0
    assert names(database.parent) == {"laurels.db"}


def test_not_on_another_database(
    database: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("database.database_file", lambda: None)
    result = command(database, "restore", str(backup))
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: The database is not SQLite: use `pg_restore` to restore it.\n",
    )
