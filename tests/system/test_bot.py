"""The example bot as a process, between the real server and a stand-in for Discord."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from callbacks.signing import sign
from tests.support.guild import GUILD, MANAGE_GUILD, Guild
from tests.support.receiver import HttpServer
from tests.support.server import BIN, ROOT, Server, command, create_bot

ANN, BOB, CY = 10, 11, 12
NO_ACCOUNT = "There is no such account. `/register` creates one."
PICTURE = "https://example.com/1.png"
FOLDER = ROOT / "examples/bot"
README = (FOLDER / "README.md").read_text()

START = """
import os, discord, yarl
discord.http.Route.BASE = os.environ["DISCORD"]
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(os.environ["GATEWAY"])
source = open("bot.py").read()
assert "call_later(60," in source
exec(compile(source.replace("call_later(60,", "call_later(0.05,"), "bot.py", "exec"))
"""


class Bot:
    """The bot, started as its README says, except for Discord's address and shorter pauses."""

    def __init__(self, guild: Guild, laurels: str, login: tuple[str, str], log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = log
        self.secrets = ("a-token", login[1])
        self.environment = {
            "DISCORD_TOKEN": "a-token",
            "GUILD_ID": GUILD,
            "LAURELS_URL": laurels,
            "LAURELS_USERNAME": login[0],
            "LAURELS_PASSWORD": login[1],
            "PORT": str(self.port),
            "DISCORD": guild.url,
            "GATEWAY": guild.gateway_url,
        }

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [BIN / "../client/bin/python", "-c", START],
                cwd=FOLDER,
                env=self.environment,
                stderr=log,
            )

    @contextmanager
    def running(self) -> Iterator[None]:
        process = self.start()
        try:
            yield
            assert "Traceback" not in self.read_log()  # later, work in progress may be cut off
            process.send_signal(2)  # Ctrl-C
            assert process.wait(60) == 0, self.log.read_text()
        finally:
            process.kill()
            process.wait()
        assert "Unclosed" not in self.read_log()

    def fail(self) -> str:
        """Start it, and return the last thing it says."""
        assert self.start().wait(60) == 1
        log = self.read_log()
        assert "Traceback" not in log
        assert "Unclosed" not in log
        return log.splitlines()[-1]

    def read_log(self) -> str:
        """Return its output, which must hold no secret."""
        log = self.log.read_text()
        for secret in self.secrets:
            assert secret not in log
        return log

    def post(self, headers: dict[str, str], body: str) -> int:
        """Send the bot a delivery that is not from the server."""
        url = f"http://127.0.0.1:{self.port}/"
        return requests.post(url, headers=headers, data=body.encode(), timeout=60).status_code


class Api:
    """Requests to the server by another app."""

    def __init__(self, server: Server) -> None:
        self.url, self.session = server.url, requests.Session()
        self.session.auth = create_bot(server.database, "--all", name="site")

    def __call__(self, method: str, path: str, **body: object) -> dict[str, object]:
        answer = self.session.request(method, self.url + path, json=body or None, timeout=60)
        assert answer.ok, answer.text
        given: dict[str, object] = answer.json() if answer.content else {}
        return given

    def account(self, user_id: int) -> dict[str, object]:
        return self("GET", f"/account/{user_id}")


@pytest.fixture
def api(server: Server) -> Api:
    api = Api(server)
    api("POST", "/teams/new", name="Red")
    api("POST", "/teams/new", name="Blue")
    return api


@pytest.fixture
def guild() -> Iterator[Guild]:
    with Guild(ANN, BOB) as guild:
        yield guild


@pytest.fixture
def bot(server: Server, guild: Guild, tmp_path: Path) -> Bot:
    login = create_bot(server.database, *re.findall(r"--grant|(?<=--grant )\w+", README))
    return Bot(guild, server.url, login, tmp_path / "bot.log")


def test_it_is_short_and_documented() -> None:
    text = (FOLDER / "bot.py").read_text()
    assert len(text.splitlines()) < 200
    for name in re.findall(r'environ(?:\.get\(|\[)"(\w+)"', text):
        assert f"`{name}`" in README


def test_commands(api: Api, guild: Guild, bot: Bot) -> None:
    with bot.running():
        assert guild.command(ANN, "team view") == NO_ACCOUNT
        assert guild.command(ANN, "team join", name="Red") == NO_ACCOUNT
        assert guild.command(ANN, "register") == "You have an account now. `/team join` is next."
        assert "An account with the id 10 already exists." in guild.command(ANN, "register")
        assert api.account(ANN)["name"] == "user10"
        assert guild.command(ANN, "team view") == "<@10> is in no team yet: see `/team join`."
        assert guild.command(ANN, "team join", name="Re") == "No teams have this name."
        assert guild.command(ANN, "team join", name="red") == "You are in Red now."
        guild.expect("made Team 1: Red", "10 +Team 1: Red")

        award: Any = {"member": ANN, "title": "First *hat*", "image_url": PICTURE}
        refused = "You are missing Manage Server permission(s) to run this command."
        assert guild.command(BOB, "award", **award) == refused
        bad = guild.command(BOB, "award", MANAGE_GUILD, **award | {"image_url": "nowhere"})
        assert bad == "This must be an absolute http or https URL."
        given = "<@10> has the award now."
        assert guild.command(BOB, "award", MANAGE_GUILD, **award) == given
        award["member"] = BOB
        assert guild.command(ANN, "award", MANAGE_GUILD, **award) == NO_ACCOUNT
        guild.command(BOB, "register")
        guild.command(BOB, "team join", name="Red")
        assert guild.command(ANN, "award", MANAGE_GUILD, **award) == "<@11> has the award now."
        assert api.account(ANN)["awards"] == api.account(BOB)["awards"] != []
        shown = "Red\nMembers (2): user10, user11\nAwards: First \\*hat\\*"
        assert guild.command(ANN, "team view") == shown
        assert guild.command(ANN, "team view", name="blue") == "Blue\nMembers (0): \nAwards: "


def test_roles(api: Api, guild: Guild, bot: Bot) -> None:
    guild.members[str(ANN)] = {"1001"}
    with bot.running():
        guild.command(ANN, "register")
        guild.expect()
        api("PATCH", f"/account/{ANN}", team=1)
        guild.expect("made Team 1: Red", "10 +Team 1: Red")
        api("PATCH", f"/account/{ANN}", team=2)
        guild.expect("made Team 2: Blue", "10 -Team 1: Red", "10 +Team 2: Blue")
        api("PATCH", f"/account/{ANN}", team=0)
        guild.expect("10 -Team 2: Blue")
        assert guild.roles_of(ANN) == {"Moderator"}
        api("PATCH", f"/account/{ANN}", team=1)
        guild.expect("10 +Team 1: Red")
        api("PATCH", "/team/1", name="Rouge")
        guild.expect("renamed Team 1: Red to Team 1: Rouge")

        api("POST", "/accounts/new", id=CY, name="Cy", discriminator=0, team=1)  # not in the guild
        guild.join(CY)
        guild.expect("12 +Team 1: Rouge")
        guild.refuses = 2
        api("PATCH", f"/account/{CY}", team=2)
        guild.expect("12 -Team 1: Rouge", "12 +Team 2: Blue")
        assert "Trying again in a minute: Forbidden: 403 Forbidden" in bot.read_log()

        body = json.dumps({"account": {"id": str(ANN)}})
        headers = {"webhook-id": f"msg_{uuid4().hex}", "webhook-timestamp": str(int(time.time()))}
        signature = sign("guessed", headers["webhook-id"], int(time.time()), body.encode())
        guild.members[str(ANN)] = {"1001"}  # a delivery would bring the role back
        assert bot.post(headers | {"webhook-signature": signature}, body) == 401
        assert bot.post(headers | {"webhook-signature": "v1"}, body) == 401
        assert bot.post(headers | {"Authorization": "Bearer guessed"}, body) == 401
        assert bot.post({}, "") == 401
        api("DELETE", f"/account/{CY}")
        guild.expect("12 -Team 2: Blue")
        assert guild.roles_of(ANN) == {"Moderator"}
        api("DELETE", "/team/2")
        guild.expect("deleted Team 2: Blue", "10 +Team 1: Rouge")


def test_down_meanwhile(server: Server, api: Api, guild: Guild, bot: Bot) -> None:
    for key in (ANN, BOB):
        api("POST", "/accounts/new", id=key, name="Ann", discriminator=0, team=1)
    with bot.running():
        guild.expect("made Team 1: Red", "11 +Team 1: Red", "10 +Team 1: Red")
    api("PATCH", f"/account/{ANN}", team=2)
    api("PATCH", f"/account/{BOB}", team=2)
    api("PATCH", "/team/2", name="Bleu")
    api("PATCH", f"/account/{BOB}", team=0)
    api("DELETE", "/team/1")
    guild.expect()
    with bot.running():
        guild.expect("deleted Team 1: Red", "made Team 2: Bleu", "10 +Team 2: Bleu")
        listed = command(server.database, "callbacks", "list").stdout
        assert "account_team_update  3 " in listed
        assert command(server.database, "callbacks", "deliver").exit_code == 0
        api("PATCH", f"/account/{BOB}", team=2)
        guild.expect("11 +Team 2: Bleu")


def test_what_keeps_it_from_running(guild: Guild, tmp_path: Path) -> None:
    with HttpServer(lambda request: request.send_error(502)) as proxy:
        bot = Bot(guild, proxy.url, ("A1", "a-password"), tmp_path / "bot.log")
        assert bot.fail().startswith("The bot cannot run: ContentTypeError: 502")
    assert bot.fail().startswith("The bot cannot run: ClientConnectorError: Cannot connect")
    del bot.environment["GUILD_ID"], bot.environment["DISCORD_TOKEN"]
    assert bot.fail() == "Set these in the environment: DISCORD_TOKEN, GUILD_ID."
