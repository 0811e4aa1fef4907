"""`make demo`: a community that is there while it is served."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import requests

from tests.support.server import ROOT, Server


def test_demo(tmp_path: Path) -> None:
    server = Server(tmp_path / "unused.db")
    server.process = subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        env=os.environ | {"PORT": str(server.port), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server.wait_until_it_answers()
    with requests.Session() as session:
        accounts = session.get(f"{server.url}/accounts/search", timeout=5).json()
        teams = session.get(f"{server.url}/teams/search", timeout=5).json()
        os.killpg(server.process.pid, signal.SIGINT)  # as Ctrl-C does
        printed = server.process.communicate()[0].decode()
    assert (server.process.returncode, list(tmp_path.iterdir())) == (0, [])
    assert f"{accounts['results']} accounts in {teams['results']} teams" in printed
    assert accounts["results"] == 300
    assert sum(team["member_count"] for team in teams["data"]) > 200
    assert len(re.findall("^Username: [AS]1$\n^Password: .{43}$", printed, re.MULTILINE)) == 2
