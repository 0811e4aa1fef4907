"""The published Python client, unmodified and in an environment of its own, on the real server."""

import json
import subprocess

import pytest
import requests

from tests.support.proxies import Pair
from tests.support.receiver import SECRET, Receiver
from tests.support.server import BIN, ROOT, Server, create_bot, environment

SCENARIOS = ("app_and_visitor", "errors_can_be_printed", "user_and_tokens", "paginator")


def play(server: Server | Pair, scenario: str, **variables: str) -> None:
    """Have the client play a scenario."""
    credentials = create_bot(server.database, "--all", name=f"The bot of {scenario}")
    ended = subprocess.run(
        [BIN / "../client/bin/python", "published_client.py", scenario, server.url, *credentials],
        cwd=ROOT / "tests/support",
        env=environment(server.database, PYTHONWARNINGS="default", **variables),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(server: Server, scenario: str) -> None:
    play(server, scenario)


def test_pauses(server: Server) -> None:
    """No write is lost on a connection that was idle for 2 s."""
    play(server, "pauses")
    teams = requests.get(f"{server.url}/teams/search", timeout=60).json()
    assert teams["results"] == 60


def test_callbacks(server: Server) -> None:
    """It registers, lists, reads and deletes callbacks, and its handler reads the deliveries."""
    with Receiver() as receiver:
        play(server, "callbacks", RECEIVER=f"{receiver.url}/", SECRET=SECRET)
        play(server, "handler", BODIES=json.dumps(receiver.taken))
