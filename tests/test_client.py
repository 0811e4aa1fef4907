"""The published Python client, unmodified and in an environment of its own, on the real server."""

import subprocess

import pytest

from tests.server import BIN, ROOT, Server, create_bot


@pytest.mark.parametrize(
    "scenario", ["app_and_visitor", "errors_can_be_printed", "user_and_tokens", "paginator"]
)
def test_scenario(server: Server, scenario: str) -> None:
    credentials = create_bot(server.database, "--all", name="The bot")
    ended = subprocess.run(
        [BIN / "../client/bin/python", "published_client.py", scenario, server.url, *credentials],
        cwd=ROOT / "tests",
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
