"""The documentation: its commands run, and nothing is missing from it."""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import requests

from api.endpoints import Endpoint
from callbacks.signing import sign
from commands import COMMANDS
from commands.export import TABLES
from config import Settings
from models import EventType, LogType
from permissions import APP_PERMISSIONS, Permission, needs
from routes import BLUEPRINTS
from tests.support.community import As, Community
from tests.support.description import Description
from tests.support.server import BIN, ROOT, Server, create_bot, environment
from tests.support.typescript import TypeScript

README = (ROOT / "README.md").read_text()
API = (ROOT / "docs/api.md").read_text()
CALLBACKS = (ROOT / "docs/callbacks.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of code in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def shell(script: str, server: Server, folder: Path, **settings: str) -> str:
    """Run commands of the documentation against a server; return their output."""
    script = script.replace("http://127.0.0.1:8000", server.url).replace(".venv/", f"{BIN.parent}/")
    script = script.replace("curl ", "curl --silent --show-error --fail-with-body ")
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 - whichever bash is installed
        cwd=folder,
        env=environment(server.database, **settings) | {"FLASK_APP": str(ROOT / "app.py")},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


@pytest.mark.sqlite
def test_readme(server: Server, tmp_path: Path) -> None:
    (tmp_path / "members.csv").write_text(blocks(README, "csv")[0])
    printed = shell("\n".join(blocks(README, "sh")), server, tmp_path)
    bodies = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert len(bodies) == 6
    account, team, moved, award, accounts, teams = bodies
    assert (account["id"], account["team"]) == ("1234567890", None)
    assert moved["team"] | {"member_count": 0} == team
    assert accounts["data"] == [moved | {"awards": [award]} | {"team": accounts["data"][0]["team"]}]
    assert teams["data"][0]["member_count"] == 1
    assert "Deleted the app Second trial." in printed
    assert printed.count("Accounts: 2 made, 0 changed") == 2
    assert (tmp_path / "my-bot.txt").stat().st_mode & 0o777 == 0o600
    answer = requests.get(f"{server.url}/account/1234567890", timeout=60).json()
    shown = json.loads(blocks(README, "json")[0])
    for one in (answer, answer["team"], shown, shown["team"]):
        assert isinstance(one.pop("created_at"), float)
    assert answer == shown


def test_api_examples(server: Server, tmp_path: Path) -> None:
    login = ":".join(create_bot(server.database, "--all"))
    search, standings, log, refused = (block for block in blocks(API, "sh") if "curl" in block)
    for script in (search.replace("&team=1", ""), *standings.splitlines()):
        assert json.loads(shell(script, server, tmp_path))["data"] == []
    read = json.loads(shell(log, server, tmp_path, LOGIN=login))
    assert read == {"events": [], "last": 0}
    printed = shell(f"{refused.strip()} || true", server, tmp_path, LOGIN=login)
    assert json.loads(printed) == json.loads(blocks(API, "json")[-1])


def test_the_objects_of_the_documentation(community: Community, as_: As) -> None:
    """Real answers equal the samples, except for times."""
    bot = as_(community.bot(APP_PERMISSIONS))
    account, team, award = (json.loads(block) for block in blocks(API, "json")[:3])
    assert bot("POST", "/teams/new", {"name": team["name"]}).status_code == 201
    sent = {name: account[name] for name in ("id", "name", "discriminator", "avatar_url")}
    assert bot("POST", "/accounts/new", sent | {"team": 1}).status_code == 201
    given = {"team": 1, "accounts": [account["id"]]}
    sent = {name: award[name] for name in ("title", "image_url")}
    assert bot("POST", "/awards/new", sent | given).get_json() == award
    real_team = bot("GET", "/team/1").get_json()
    real_account = bot("GET", f"/account/{account['id']}").get_json()
    assert real_team == team | {"created_at": real_team["created_at"]}
    assert account["team"] == team
    times = {"created_at": real_account["created_at"]}
    assert real_account == account | {"team": real_team} | times


def test_every_endpoint_is_documented() -> None:
    """The table has the code's endpoints, with their needs and success, in the code's order."""
    rows = re.findall(r"^\| `[A-Z]+ /.*$", API, re.MULTILINE)
    endpoints = (endpoint for blueprint in BLUEPRINTS for endpoint in blueprint.described)
    assert rows == [row_of(endpoint) for endpoint in endpoints]


def row_of(endpoint: Endpoint) -> str:
    """Return the table's row for an endpoint."""
    needed = needs(endpoint.needs).replace("the permission ", "") if endpoint.needs else "–"
    for permission in Permission:
        needed = re.sub(rf"\b{permission.label}\b", f"`{permission.label}`", needed)
    if endpoint.needs and endpoint.discord:
        needed += f", or `{endpoint.discord}` alone"
    path = endpoint.rule.replace("<", "{").replace(">", "}")
    success = ", ".join(f"{status}{body_of(body)}" for status, body in endpoint.returns.items())
    return f"| `{endpoint.method} {path}` | {needed} | {success} |"


def body_of(schemas: Any) -> str:
    """Return the names of the objects that an answer may be."""
    several = schemas if isinstance(schemas, tuple) else (schemas,)
    names = [schema.__name__.removesuffix("Schema") for schema in several if schema]
    objects = [re.sub(r"(\w+)Page", r"page of \1", name) for name in names]
    return f" {' or '.join(objects)}" if objects else ""


def test_python_example(server: Server, tmp_path: Path) -> None:
    username, password = create_bot(server.database, "--all")
    (tmp_path / "example.py").write_text(blocks(API, "python")[0])
    settings = {"LAURELS_USERNAME": username, "LAURELS_PASSWORD": password, "API": server.url}
    settings |= {"PYTHONWARNINGS": "default"}  # only the client's own
    printed = shell(".venv/client/bin/python example.py", server, tmp_path, **settings)
    assert printed == "Bob is in Blue\n"


def test_catching_up(server: Server, tmp_path: Path) -> None:
    username, password = create_bot(server.database, "--all")
    for number in range(250):
        name = {"name": f"Team {number}"}
        requests.post(f"{server.url}/teams/new", json=name, auth=(username, password), timeout=5)
    (tmp_path / "catch_up.py").write_text(blocks(API, "python")[-1])
    settings = {"LAURELS_USERNAME": username, "LAURELS_PASSWORD": password, "API": server.url}
    printed = shell(".venv/bin/python catch_up.py", server, tmp_path, **settings)
    assert printed == "app_create by command line\n" + 250 * "team_create by app 1\n"


def test_the_first_ten_minutes_with_callbacks(server: Server, tmp_path: Path) -> None:
    """Each answer equals the documentation's, except for times and ids."""
    username, password = create_bot(server.database, "--all")
    register, miss, deliver = blocks(CALLBACKS, "sh")
    nobody_listens, one_waits, _ = blocks(CALLBACKS, "json")
    script, receiver = blocks(CALLBACKS, "python")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def here(text: str) -> str:
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace(
            "127.0.0.1:8001", f"127.0.0.1:{port}"
        )

    def play(commands: str) -> str:
        commands = f"{register.splitlines()[0]}\n{commands}"  # it names the callback
        login = {"LAURELS_USERNAME": username, "LAURELS_PASSWORD": password}
        return shell(here(commands), server, tmp_path, LOGIN=f"{username}:{password}", **login)

    def plain(printed: str) -> Any:
        same = re.sub(r"msg_\w+", "msg_", re.sub(r"\d+\.\d+", "0.5", printed))
        return json.loads(same[same.rfind("\n{") + 1 :])

    (tmp_path / "script.py").write_text(here(script))
    (tmp_path / "receiver.py").write_text(receiver)
    assert plain(play(register)) == plain(nobody_listens)
    with listening(port, tmp_path) as process:
        sent = plain(play(register.splitlines()[-1]))
        assert sent == {"status": 204, "error": None, "seconds": 0.5}
    assert process.communicate()[0] == "a ping\n"
    assert plain(play(miss)) == plain(one_waits)
    printed = play(".venv/bin/python script.py")
    assert re.sub(r"msg_\w+", "msg_", printed) == (
        "ping: Connection refused\nmsg_ waits: Connection refused\n"
    )
    with listening(port, tmp_path) as process:
        assert plain(play(deliver)) == {"delivered": 1, "waiting": 0}
        assert play(".venv/bin/python script.py") == (
            "ping: fine\n{'delivered': 0, 'waiting': 0}\n"
        )
        for signature in (None, "v1", "v1,forged"):
            headers = {"webhook-id": "1", "webhook-timestamp": f"{time.time():.0f}"}
            headers |= {"webhook-signature": signature} if signature else {}
            forged = requests.post(f"http://127.0.0.1:{port}/", b"{}", headers=headers, timeout=60)
            assert forged.status_code == 401
    assert process.communicate()[0] == "Ann is in Red\na ping\n"


@contextmanager
def listening(port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the receiver in a folder."""
    process = subprocess.Popen(
        [BIN / "python", "receiver.py"],
        cwd=folder,
        env={"SECRET": "a long random text", "PORT": str(port), "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_for(port)
        yield process
    finally:
        process.kill()


def wait_for(port: int) -> None:
    """Wait until somebody is listening."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)


def test_the_typescript_of_the_documentation(typescript: TypeScript) -> None:
    """Compiled in strict mode, it verifies our signatures, and refuses others."""
    timestamp = int(time.time())
    script = ["const results = [];"]
    for secret, change, age in (
        ("plain", "", 0),
        ("whsec_c2VjcmV0", "", 0),
        ("plain", "x", 0),
        ("plain", "", 1000),
    ):
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(timestamp - age),
            "webhook-signature": sign(secret, "msg_1", timestamp - age, b"{}"),
        }
        script.append(f"console.log(verify('{secret}', {json.dumps(headers)}, '{{}}{change}'));")
    printed = typescript.run(blocks(CALLBACKS, "ts")[0] + "\n".join(script))
    assert printed == "true\ntrue\nfalse\nfalse\n"


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node.js")
def test_javascript_rounds_ids() -> None:
    said = re.search(r"`(JSON\.stringify.+?)` sends\s+([0-9]+)", API)
    assert said
    sent = subprocess.check_output(["node", "-p", said[1]], text=True)  # noqa: S607 - any will do
    assert json.loads(sent) == {"id": int(said[2])}


def test_the_body_of_the_documentation(community: Community) -> None:
    """It has the attributes that a real one has."""
    community.account(1234567890, community.team())
    real = community.app.test_client().get("/account/1234567890").get_json()
    body = json.loads(blocks(CALLBACKS, "json")[-1])
    assert body["account"].keys() == real.keys()
    assert body["team"].keys() == body["account"]["team"].keys() == real["team"].keys()


def test_every_event_is_documented(description: Description) -> None:
    """The table has each with its body, and `/openapi.json` has no others."""
    events = re.findall(r"^\| `(\w+)` \| .* \| (.+) \|$", CALLBACKS, re.MULTILINE)
    documented = {name: tuple(re.findall(r"`(\w+)`", body)) for name, body in events}
    assert documented == {event.value: event.body for event in EventType}
    for event in LogType:
        assert f"`{event.value}`" in CALLBACKS
    (parameter,) = (
        one
        for one in description.document["paths"]["/callback/{event}"]["get"]["parameters"]
        if one["name"] == "event"
    )
    assert parameter["schema"]["enum"] == [event.value for event in EventType]


def test_every_command_is_documented() -> None:
    for command in COMMANDS:
        subcommands = command.commands.values() if isinstance(command, click.Group) else []
        for name in [f"{command.name} {sub.name}" for sub in subcommands] or [f"{command.name}"]:
            assert f"flask {name}" in README + API + CALLBACKS
    for table in TABLES:
        assert f"flask export {table}" in README


def test_every_setting_is_documented() -> None:
    for field in fields(Settings):
        assert f"`{field.name.upper()}`" in README


def test_every_permission_is_documented() -> None:
    for permission in Permission:
        assert f"| {permission:d} | `{permission.label}` |" in API
