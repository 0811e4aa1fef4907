"""`make demo`: a community that exists while it is served."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import requests

from tests.support.server import ROOT, Server


def demo(server: Server, folder: Path, **settings: str) -> "subprocess.Popen[bytes]":
    """Start the demo, with a folder for its files."""
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        env=os.environ | {"PORT": str(server.port), "TMPDIR": str(folder)} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def test_demo(tmp_path: Path) -> None:
    server = Server(tmp_path / "unused.db")
    server.process = demo(server, tmp_path)
    server.wait_until_it_answers()
    assert server.process.stdout
    lines: list[str] = []
    while "".join(lines).count("\nPassword: ") < 2:
        lines.append(server.process.stdout.readline().decode())
    printed = "".join(lines)
    with requests.Session() as session:
        accounts = session.get(f"{server.url}/accounts/search?per_page=1000", timeout=60).json()
        teams = session.get(f"{server.url}/teams/search", timeout=60).json()
        urls = {account["avatar_url"] for account in accounts["data"]}
        urls |= {award["image_url"] for team in teams["data"] for award in team["awards"]}
        for url in urls - {None}:
            assert url.startswith(f"{server.url}/pages/badges/")
            picture = session.get(url, timeout=60)
            assert (picture.status_code, picture.headers["Content-Type"]) == (
                200,
                "image/svg+xml; charset=utf-8",
            )
            assert ET.fromstring(picture.text).tag.endswith("svg")  # noqa: S314 - our own
        os.killpg(server.process.pid, signal.SIGINT)  # as Ctrl-C does
        server.process.communicate()
    assert (server.process.returncode, list(tmp_path.iterdir())) == (0, [])
    assert f"{accounts['results']} accounts in {teams['results']} teams" in printed
    assert accounts["results"] == 300
    assert sum(team["member_count"] for team in teams["data"]) > 200
    credentials = re.findall("^Username: ([AS]1)$\n^Password: (.{43})$", printed, re.MULTILINE)
    assert [username for username, _ in credentials] == ["S1", "A1"]
    assert printed.endswith(f"Password: {credentials[1][1]}\n")
    assert printed.index("Booting worker") < printed.index("Username: ")


def test_no_demo_on_a_taken_port(server: Server, tmp_path: Path) -> None:
    """Its credentials are not shown beside another server's address."""
    process = demo(server, tmp_path)
    printed = process.communicate()[0].decode()
    assert (process.returncode, list(tmp_path.iterdir())) == (1, [])
    assert f"Port {server.port} is taken" in printed
    assert "Password" not in printed
