"""`flask backup`: complete copies while others write, and no harm to existing files."""

import errno
import os
import re
import resource
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import click
import pytest
import requests

from tests.support.databases import Database
from tests.support.server import Server, command, create_bot

pytestmark = pytest.mark.sqlite  # PostgreSQL has `pg_dump`


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder for backups, with an old one in it."""
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "old.db").write_bytes(b"the old backup")
    return folder


@pytest.fixture(autouse=True)
def _keep_signal_handler() -> Iterator[None]:
    """Undo the command's handling of SIGTERM, which must not end the tests."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


def back_up(database: Database, file: Path) -> None:
    """Make a backup that succeeds."""
    result = command(database, "backup", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(rf"Backed up to {re.escape(str(file))} \(\d+\.\d MB\)\.\n", result.stdout)


def refused(database: Path, file: Path) -> str:
    """Fail to make a backup, and leave everything as it was; return the reason."""
    before = contents(file.parent)
    result = command(database, "backup", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert contents(file.parent) == before
    reason = result.stderr.strip()
    assert "\n" not in reason
    return reason.removeprefix("Error: ")


def contents(folder: Path) -> dict[Path, bytes | None]:
    """Return the contents of a folder."""
    if not folder.is_dir():
        return {}
    return {path: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


def accounts(database: Path) -> set[int]:
    """Return the ids of the accounts in a backup, after checking it."""
    assert {path.name for path in database.parent.glob(f"{database.name}*")} == {database.name}
    assert database.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {key for (key,) in connection.execute("SELECT id FROM accounts")}


def test_while_the_server_writes(server: Server, folder: Path) -> None:
    """Each backup holds every write that was answered before it began."""
    auth = create_bot(server.database, "--all")
    ids, answered, one_more, enough = count(1), list[int](), Semaphore(0), Event()

    def write() -> None:
        with requests.Session() as client:
            client.auth = auth
            while not enough.is_set():
                body = {"id": next(ids), "name": "Ann", "discriminator": 1}
                response = client.post(f"{server.url}/accounts/new", json=body, timeout=60)
                assert response.status_code == 201, response.text
                answered.append(int(response.json()["id"]))
                one_more.release()

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write) for _ in range(4)]
        try:
            for number in range(4):
                for _ in range(25):
                    assert one_more.acquire(timeout=60)
                before = set(answered)
                back_up(server.database, folder / f"{number}.db")
                assert before <= accounts(folder / f"{number}.db")
        finally:
            enough.set()
        for writer in writers:
            writer.result()
    assert len(list(folder.iterdir())) == 4 + 1


def test_it_ends_though_others_write_at_each_step(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        writes = count(1)

        def write(_bar: object, _pages: int) -> None:
            key = next(writes)
            assert key < 1000
            other.execute(
                "INSERT INTO accounts VALUES (?, '0', NULL, NULL, 0, '', 'a', 'a')", (key,)
            )

        monkeypatch.setattr("commands.backup.PAGES", 1)
        monkeypatch.setattr(type(click.progressbar(length=1)), "update", write)
        back_up(database, folder / "new.db")
    assert next(writes) > 10
    assert accounts(folder / "new.db") == set()


def test_an_existing_file_stays(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder / "nowhere")
    for name in ("old.db", "folder", "link"):
        assert "already exists, and was not changed" in refused(database, folder / name)

    def meanwhile(_: object) -> str:
        (folder / "new.db").write_bytes(b"another backup")
        return ""

    monkeypatch.setattr("commands.backup.sqlite_faults", meanwhile)
    result = command(database, "backup", str(folder / "new.db"))
    assert result.exit_code == 1
    assert "already exists" in result.stderr
    assert (folder / "new.db").read_bytes() == b"another backup"
    assert len(list(folder.iterdir())) == 4


def test_without_a_name(database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = command(database, "backup")
    (new,) = folder.glob("laurels-*")
    assert re.fullmatch(r"laurels-\d{4}(-\d\d){2}-\d{6}\.sqlite3", new.name)
    assert result.stdout == f"Backed up to {new.name} (0.2 MB).\n"
    assert accounts(new) == set()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Keep this process from making a file larger than this."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk(database: Path, folder: Path) -> None:
    with file_size_limit(database.stat().st_size - 1):
        reason = refused(database, folder / "new.db")
    assert reason.startswith(
        f"No backup was made: disk I/O error ({folder}). Choose an existing folder"
    )


def test_a_bad_folder(database: Path, folder: Path) -> None:
    for bad, why in ((folder / "no", "No such file"), (folder / "old.db", "Not a directory")):
        assert f"No backup was made: {why}" in refused(database, bad / "new.db")


def test_a_disk_without_links(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(_copy: Path, _file: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", link)  # as on FAT, which a test cannot mount
    assert "Back up to another disk" in refused(database, folder / "new.db")


def test_a_folder_that_cannot_be_listed(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An existing database is not reported as missing."""
    real = os.open

    def open_(path: Any, *arguments: Any, **options: Any) -> int:
        if path == folder:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr("os.open", open_)
    result = command(database, "backup", str(folder / "new.db"))
    assert (result.exit_code, (folder / "new.db").is_file()) == (0, True), result.output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(database: Path, folder: Path) -> None:
    folder.chmod(0o500)
    assert "Permission denied" in refused(database, folder / "new.db")
    folder.chmod(0o700)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_interrupted(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def interrupt(_: object) -> str:
        assert len(list(folder.iterdir())) == 2
        signal.raise_signal(number)
        return ""

    monkeypatch.setattr("commands.backup.sqlite_faults", interrupt)
    assert refused(database, folder / "new.db") == "Aborted!"


def test_a_database_that_is_not_whole(database: Path, folder: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO awardees VALUES (7, 8, NULL)")
    reason = refused(database, folder / "new.db")
    assert "row 1 of awardees refers to a row of awards that does not exist" in reason
    with database.open("r+b") as opened:
        opened.seek(4096)
        opened.write(b"junk" * 4096)
    assert "the database is damaged" in refused(database, folder / "new.db")
    database.write_bytes(b"no database" * 1000)
    assert "file is not a database" in refused(database, folder / "new.db")


def test_a_database_that_is_not_ours(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing.db"
    assert "There is no database" in refused(missing, folder / "new.db")
    assert not missing.exists()
    missing.touch()
    assert "no such table: alembic_version" in refused(missing, folder / "new.db")
    monkeypatch.setattr("commands.backup.database_file", lambda: None)
    assert "use `pg_dump`" in refused(missing, folder / "new.db")


@pytest.mark.parametrize("url", ["{}?timeout=3", "file:{}?uri=true&cache=private"])
def test_a_url_with_options(database: Path, folder: Path, url: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO accounts VALUES (5, '0', NULL, NULL, 0, '', 'a', 'a')")
    back_up(Path(url.format(database)), folder / "a b?#%41.db")
    assert accounts(folder / "a b?#%41.db") == {5}
