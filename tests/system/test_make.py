"""`make`: the environment that it installs into, and the address that it serves on."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.databases import Database
from tests.support.server import BIN, ROOT, Server, environment

OLD = """#!/bin/sh
exec {python} -c 'import sys; sys.version_info = (3, 10, 2); exec(sys.argv.pop(2))' "$@"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of this repository that needs no libraries."""
    folder = tmp_path / "laurels"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "requirements.lock").touch()
    return folder


def make(folder: Path, python: Path | str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Install the server's requirements."""
    return subprocess.run(
        ["make", ".venv/use", f"PYTHON={python}"],  # noqa: S607 - whichever make is installed
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        check=False,
        capture_output=True,
        text=True,
    )


def test_an_old_python(folder: Path) -> None:
    old = folder / "python3"
    old.write_text(OLD.format(python=sys.executable))
    old.chmod(0o755)
    refused = make(folder, old)
    assert refused.returncode == 2
    (line, _) = refused.stderr.splitlines()  # the last line is make's
    assert line == (
        f"Laurels needs Python 3.11 or newer, and {old} is 3.10: name another, as in make run "
        "PYTHON=python3.13"
    )
    assert not (folder / ".venv").exists()


def test_no_venv(folder: Path) -> None:
    """Nothing broken is left, for example when Debian's python3-venv is missing."""
    assert make(folder, "/bin/true").returncode == 2
    without = folder / "python3"
    without.write_text(
        '#!/bin/sh\n[ "$1" = -c ] || { mkdir .venv; echo "no ensurepip"; exit 1; }\n'
    )
    without.chmod(0o755)
    assert "no ensurepip" in make(folder, without).stdout
    assert not (folder / ".venv").exists()


def test_a_virtual_environment_that_is_of_no_use_is_made_anew(folder: Path) -> None:
    assert make(folder).returncode == 0
    mark = folder / ".venv/mark"
    mark.touch()
    os.utime(folder / "requirements.lock", (2**32, 2**32))
    assert make(folder, "/bin/false").returncode == 0
    assert mark.exists()
    os.utime(folder / "requirements.lock", (0, 0))

    moved = folder.rename(folder.with_name("moved"))
    assert make(moved).returncode == 0
    assert not (moved / ".venv/mark").exists()
    subprocess.run([moved / ".venv/bin/pip", "--version"], check=True, stdout=subprocess.DEVNULL)

    (moved / ".venv/lib").rename(moved / ".venv/other")  # as after an upgrade of Python
    (moved / ".venv/bin/python3").unlink()
    assert make(moved).returncode == 0
    assert not (moved / ".venv/other").exists()
    assert "up to date" in make(moved).stdout


@pytest.mark.parametrize("target", ["run", "dev"])
def test_where_it_listens(database: Database, target: str) -> None:
    server = Server(database)
    server.process = subprocess.Popen(
        ["make", "-o", ".venv/use", "-o", ".venv/dev", target, f"BIN={BIN}", f"PORT={server.port}"],  # noqa: S607
        cwd=ROOT,
        env=environment(database, PYTHONWARNINGS="default"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    server.wait_until_it_answers()
    os.killpg(server.process.pid, signal.SIGINT)  # as Ctrl-C does
    assert f"http://127.0.0.1:{server.port}" in server.process.communicate()[1].decode()
