"""The documentation: its commands run, and nothing is missing from it."""

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path

from flask import Flask

from config import Settings
from permissions import Permission
from tests.server import BIN, ROOT, Server, create_bot, environment

README = (ROOT / "README.md").read_text()
API = (ROOT / "docs/api.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """Give the blocks of code in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def shell(script: str, server: Server, folder: Path, **settings: str) -> str:
    """Run commands of the documentation against a server; give what they print."""
    script = script.replace("http://127.0.0.1:8000", server.url).replace(".venv/", f"{BIN.parent}/")
    script = script.replace("curl ", "curl --silent --show-error --fail-with-body ")
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 - whichever bash there is
        cwd=folder,
        env=environment(server.database, **settings) | {"FLASK_APP": str(ROOT / "app.py")},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_readme(server: Server, tmp_path: Path) -> None:
    printed = shell("\n".join(blocks(README, "sh")), server, tmp_path)
    bodies = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert len(bodies) == 6
    account, team, moved, award, accounts, teams = bodies
    assert (account["id"], account["team"]) == ("1234567890", None)
    assert moved["team"] | {"member_count": 0} == team
    assert accounts["data"] == [moved | {"awards": [award]} | {"team": accounts["data"][0]["team"]}]
    assert teams["data"][0]["member_count"] == 1
    assert "Deleted the app My bot." in printed


def test_api_examples(server: Server, tmp_path: Path) -> None:
    login = ":".join(create_bot(server.database, "--all"))
    first, second = blocks(API, "sh")
    assert json.loads(shell(first.replace("&team=1", ""), server, tmp_path))["data"] == []
    refused = shell(f"{second.strip()} || true", server, tmp_path, LOGIN=login)
    assert json.loads(refused) == json.loads(blocks(API, "json")[0])


def test_python_example(server: Server, tmp_path: Path) -> None:
    username, password = create_bot(server.database, "--all")
    (tmp_path / "example.py").write_text(blocks(API, "python")[0])
    settings = {"USERNAME": username, "PASSWORD": password, "API": server.url}
    settings |= {"PYTHONWARNINGS": "default"}  # the client's own
    printed = shell(".venv/client/bin/python example.py", server, tmp_path, **settings)
    assert printed == "Bob is in Blue\n"


def test_every_setting_is_documented() -> None:
    for field in fields(Settings):
        assert f"`{field.name.upper()}`" in README


def test_every_permission_is_documented() -> None:
    for permission in Permission:
        assert f"| {permission:d} | `{permission.label}` |" in API


def test_every_endpoint_is_in_the_description(app: Flask) -> None:
    description = app.test_client().get("/openapi.json").get_json()
    described = {
        (method.upper(), path)
        for path, operations in description["paths"].items()
        for method in operations
        if method != "parameters"
    }
    served = {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == served - {("GET", "/openapi.json")}
    for operations in description["paths"].values():
        for method, operation in operations.items():
            if method != "parameters":
                assert operation["summary"]
                if method != "get":
                    assert operation["security"] == [{"basic": []}]
                    assert "Needs " in operation["description"]
