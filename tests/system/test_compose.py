"""`compose.yaml`, its parts in the image, the proxy and the guide, and its daily backup."""

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.support.server import BIN, ROOT, environment
from tests.system.test_deploy import SECTIONS, WEEK

SERVICES = YAML(typ="safe").load(ROOT / "compose.yaml")["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "laurels"}
DOCKERFILE = dict(
    re.findall(r"^([A-Z]+) (.+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
)
FOLDER = DOCKERFILE["VOLUME"]
SCHEMAS = [
    ("compose-spec", "compose.yaml"),
    *(("github-workflows", f"{path}") for path in ROOT.glob(".github/workflows/*")),
    *(("github-issue-forms", f"{path}") for path in ROOT.glob(".github/ISSUE_TEMPLATE/*")),
]


@pytest.mark.parametrize(("schema", "path"), SCHEMAS)
def test_schemas(schema: str, path: str) -> None:
    check = [f"{BIN}/check-jsonschema", "--builtin-schema", f"vendor.{schema}", path]
    result = subprocess.run(check, cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_what_it_shares_with_the_image() -> None:
    """The data folder, the port and the user; and versions are pinned."""
    assert SERVICES["server"]["build"] == {"context": ".", "dockerfile": "deploy/Dockerfile"}
    given = dict(part.split("=", 1) for part in DOCKERFILE["ENV"].split())
    assert given["PORT"] == DOCKERFILE["EXPOSE"]
    assert "http://127.0.0.1:$PORT/health" in DOCKERFILE["HEALTHCHECK"]
    user, group = DOCKERFILE["USER"].split(":")
    assert f"--uid {user} --gid {group} " in DOCKERFILE["RUN"]
    for service in OURS.values():
        assert service["volumes"] == [f"laurels:{FOLDER}"]
        settings = service["environment"]
        assert settings["DATABASE_URL"] == f"${{DATABASE_URL:-{given['DATABASE_URL']}}}"
        assert (settings["HOST"], settings["PORT"]) == (given["HOST"], given["PORT"])
        is_server = "command" not in service
        assert ("healthcheck" in service) is not is_server  # the image's asks a server
    assert SERVICES["dump"]["user"] == DOCKERFILE["USER"]
    assert SERVICES["dump"]["volumes"] == [f"laurels:{FOLDER}"]
    others = [service["image"] for service in SERVICES.values() if service["image"] != "laurels"]
    for image in (DOCKERFILE["FROM"], *others):
        assert re.search(r":\d+\.\d+", image)


def test_what_the_guide_names() -> None:
    """Services, backup files and settings are those of compose.yaml."""
    guide = "".join(SECTIONS["Docker"])
    named = re.findall(r"(?<!-)\b(?:exec|run --rm(?: --\S+)*) ([\w-]+)", guide)
    assert set(named) == {"server", "dump"}
    (stopped,) = set(re.findall(r"compose stop (\w.*)", guide))
    whoever_uses_it = {name for name, service in OURS.items() if name != "backup"}
    assert set(stopped.split()) == whoever_uses_it
    text = (ROOT / "compose.yaml").read_text()
    for name in ("DOMAIN", "DATABASE_URL", "POSTGRES_PASSWORD"):
        assert f"\n{name}=" in guide or f'"{name}=' in guide
        assert f"${{{name}:-" in text
    assert {name for name, one in SERVICES.items() if "profiles" in one} == {
        "database",
        "dump",
        "server-2",
    }


@pytest.mark.skipif(not shutil.which("caddy"), reason="needs caddy")
def test_caddy_is_told_where_the_server_is() -> None:
    """One Caddyfile serves, with the names of compose.yaml; both servers answer to one name."""
    told = {name: f"{value}" for name, value in SERVICES["caddy"]["environment"].items()}
    adapted = subprocess.run(
        shlex.split("caddy adapt --config deploy/Caddyfile"),
        cwd=ROOT,
        env=os.environ | told | {"DOMAIN": "laurels.test"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (server,) = json.loads(adapted)["apps"]["http"]["servers"].values()
    assert json.dumps({"host": ["laurels.test"]}) in json.dumps(server)
    assert json.dumps({"dial": f"server:{DOCKERFILE['EXPOSE']}"}) in json.dumps(server)
    assert SERVICES["server-2"]["networks"]["default"]["aliases"] == ["server"]


@pytest.mark.sqlite
@pytest.mark.parametrize(("service", "suffix"), [("backup", "sqlite3"), ("dump", "dump")])
def test_a_backup_each_day(
    service: str, suffix: str, database: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Once, however often it checks; then those older than a week are deleted."""
    backups, programs = tmp_path / "backups", tmp_path / "bin"
    backups.mkdir()
    programs.mkdir()
    (programs / "sleep").write_text("#!/bin/sh\nkill $PPID\n")
    (programs / "sleep").chmod(0o755)
    script = SERVICES[service]["command"][-1].replace("$$", "$").replace(FOLDER, f"{tmp_path}")
    shell = ["/bin/sh", "-c", script]
    settings = environment(database)
    if service == "dump":
        settings |= request.getfixturevalue("postgresql").environment
    settings["PATH"] = f"{programs}:{BIN}:{settings['PATH']}"
    for name, age in {
        "laurels-new": WEEK - 60,
        "laurels-old": WEEK + 60,
        "other": 9 * WEEK,
    }.items():
        (backups / name).touch()
        os.utime(backups / name, (time.time() - age,) * 2)
    for _ in range(2):
        subprocess.run(shell, cwd=ROOT, env=settings, check=False)
        made = set(backups.iterdir()) - {backups / "laurels-new", backups / "other"}
        (backup,) = made
        assert re.fullmatch(rf"laurels-\d{{4}}-\d\d-\d\d\.{suffix}", backup.name)
        assert backup.stat().st_mode & 0o777 == 0o600
