"""Clients that others' programs generate from the API's description, on the real server."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import requests

from tests.support.server import BIN, Server, create_bot
from tests.support.typescript import TypeScript
from tests.system.test_documentation import API, blocks, shell

GENERATOR = BIN.parent / "generator"


def test_a_client_in_typescript(server: Server, typescript: TypeScript) -> None:
    """The documentation's command makes a client for the documentation's bot, in strict mode."""
    username, password = create_bot(server.database, "--all")
    login = {"LAURELS_USERNAME": username, "LAURELS_PASSWORD": password, "API": server.url}
    command = next(block for block in blocks(API, "sh") if block.startswith("npx"))
    shell(command, server, typescript.folder)
    code = blocks(API, "ts")[0]
    assert typescript.run(code, **login) == "Cid is in Green\n"
    number = code.replace('id: "80351110224678913"', "id: 80351110224678913")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        typescript.run(number, **login)
    assert "Type 'number' is not assignable to type 'string'" in refused.value.stdout


def test_the_description_by_redocly(server: Server, typescript: TypeScript) -> None:
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    command = f"npx redocly lint --format=json {server.url}/openapi.json"
    found = json.loads(shell(command, server, typescript.folder, **quiet))
    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, found["problems"]


@pytest.mark.skipif(not GENERATOR.is_dir(), reason="needs `make .venv/generator`")
def test_a_client_in_python(server: Server, tmp_path: Path) -> None:
    """The documentation's command makes a client for the documentation's bot."""
    username, password = create_bot(server.database, "--all")
    login = {"LAURELS_USERNAME": username, "LAURELS_PASSWORD": password, "API": server.url}
    command = next(block for block in blocks(API, "sh") if "openapi-python-client" in block)
    command = command.replace("client/", ".venv/generator/").replace(
        " --url", " --fail-on-warning --url"
    )
    path = {"PATH": f"{GENERATOR}/bin:{os.environ['PATH']}"}  # with the formatter for the client
    shell(command, server, tmp_path, **path)
    (tmp_path / "bot.py").write_text(blocks(API, "python")[1])
    printed = shell(".venv/generator/bin/python bot.py", server, tmp_path, **login)
    assert printed == "Dan is in Gold\n"
    account = requests.get(f"{server.url}/account/80351110224678914", timeout=5).json()
    assert (account["name"], account["team"]) == ("Dan", None)
