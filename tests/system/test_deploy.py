"""Deployment: `docs/deploy.md` on a folder that stands for a host, the units, the proxies."""

import gc
import os
import re
import runpy
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Self

import pytest
import requests
from sqlalchemy import inspect

from app import create_app
from config import Settings
from database import db
from permissions import APP_PERMISSIONS
from tests.support.community import Community
from tests.support.databases import Cluster, connected, url_of
from tests.support.proxies import PROXIES, Write, proxy
from tests.support.receiver import HttpServer
from tests.support.server import BIN, ROOT, Server, environment, flask
from tests.system.test_documentation import blocks

PLACES = re.compile(r"/(?=opt/laurels|var/lib/laurels|etc/|usr/local/)")
STAND_INS = {  # for programs that need root, a registry or a remote
    "apt-get": "true",
    "useradd": "true",
    "make": "true",
    "certbot": "true",
    "git": '[ "$1" != clone ] || cp -a "$2" "$3"',
    "runuser": 'shift 3; exec "$@"',
    "setpriv": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
}
SECTIONS = {
    part.split("\n", 1)[0]: blocks(part, "sh")
    for part in (ROOT / "docs/deploy.md").read_text().split("\n## ")
}
START, STOP = "systemctl start laurels\n", "systemctl stop laurels\n"
UNTIL_START = SECTIONS["Install"][0].split("systemctl enable")[0]
COMMON = "laurels-.service.d/common.conf"
WEEK = 7 * 24 * 60 * 60


class Host(Server):
    """A folder that stands for a host's `/`, with the few parts of systemd the server needs."""

    database: Path

    def __init__(self, root: Path) -> None:
        super().__init__(root / "var/lib/laurels/laurels.sqlite3")
        self.root = root
        for folder in (
            "bin",
            "etc/caddy",
            "etc/nginx/sites-enabled",
            "opt",
            "usr/local/bin",
            "var/lib/laurels/backups",
        ):
            (root / folder).mkdir(parents=True)
        for name, script in STAND_INS.items():
            (root / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (root / "bin" / name).chmod(0o755)
        path = f"{root}/bin:{root}/usr/local/bin:{os.environ['PATH']}"
        given = {"DOMAIN": "laurels.test", "SOURCE": f"{root}/source", "PATH": path}
        self.environment = environment(self.database, PORT=str(self.port)) | given
        del self.environment["DATABASE_URL"]  # comes from the host's settings
        self.add_source()

    def add_source(self) -> None:
        """Add the Docker image's files, `deploy/`, and the virtual environment of the tests."""
        source = self.root / "source"
        for pattern in re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE):
            for path in ROOT.glob(pattern):
                copy = shutil.copytree if path.is_dir() else shutil.copy
                source.mkdir(exist_ok=True)
                copy(path, source / path.name)
        shutil.copytree(ROOT / "deploy", source / "deploy", symlinks=True)
        for path in source.glob("deploy/**/*"):
            if path.is_file() and not path.is_symlink():
                path.write_text(self.here(path.read_text()))
        (source / ".venv").symlink_to(BIN.parent)

    def here(self, text: str) -> str:
        """Return text with this folder in place of `/`."""
        return PLACES.sub(f"{self.root}/", text)

    def run(self, script: str, **variables: str) -> str:
        """Run commands of the documentation; return their output."""
        self.environment |= variables
        script = self.here(script).replace("-o laurels", "").replace("-g laurels", "")
        script = script.replace("https://$DOMAIN", self.url).replace(".venv/bin/pip", "true")
        printed = ""
        for part in re.split(r"^(systemctl .*\n)", script, flags=re.MULTILINE):
            if part == START or "--now laurels.service" in part:
                self.__enter__()
            elif part == STOP:
                self.stop()
            elif not part.startswith("systemctl "):
                printed += self.execute(["bash", "-euo", "pipefail", "-c", part], self.root)
        return printed

    def unit(self, name: str, key: str) -> None:
        """Run a command of a unit."""
        self.execute(self.command(name, key), self.root / "opt/laurels")

    def command(self, name: str, key: str) -> list[str]:
        """Return a command of a unit."""
        text = (self.root / "usr/local/lib/systemd/system" / name).read_text()
        (line,) = re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)
        return shlex.split(line.replace("$$", "$").replace("%%", "%"))

    def execute(self, command: list[str], folder: Path) -> str:
        """Run a command; return its output."""
        return subprocess.run(
            command, cwd=folder, env=self.environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def __enter__(self) -> Self:
        self.unit("laurels.service", "ExecStartPre")
        self.log = (self.root / "log").open("a+")
        self.process = subprocess.Popen(
            self.command("laurels.service", "ExecStart"),
            cwd=self.root / "opt/laurels",
            env=self.environment,
            stderr=self.log,
            start_new_session=True,
        )
        self.wait_until_it_answers()
        return self

    def stop(self) -> None:
        """Stop the server as systemd does, if it was started."""
        if hasattr(self, "process"):
            self.process.terminate()
            self.process.wait()
            self.log.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return an empty host."""
    host = Host(tmp_path)
    yield host
    host.stop()


def test_install_back_up_upgrade_restore(host: Host) -> None:
    printed = host.run("".join(SECTIONS["Install"]))
    assert '{"status":"ok"}' in printed
    assert "\n{$DOMAIN:laurels.test} {" in (host.root / "etc/caddy/Caddyfile").read_text()
    host.run(SECTIONS["nginx instead of Caddy"][0])
    assert "name laurels.test;" in (host.root / "etc/nginx/sites-enabled/laurels").read_text()
    lines = dict(line.split(": ", 1) for line in printed.splitlines() if ": " in line)
    bot = (lines["Username"], lines["Password"])

    def create_team(name: str) -> None:
        body = {"name": name}
        answer = requests.post(f"{host.url}/teams/new", json=body, auth=bot, timeout=60)
        assert answer.status_code == 201

    create_team("Red")
    forged = {"SCRIPT_NAME": "/teams"}  # a header that changes the path on some servers
    assert requests.get(f"{host.url}/health", headers=forged, timeout=60).ok
    backups = host.database.parent / "backups"
    ages = {"laurels-new": WEEK - 60, "laurels-old": WEEK + 60, "before-upgrade-old": WEEK + 60}
    for name, age in ages.items():
        (backups / name).touch()
        os.utime(backups / name, (time.time() - age,) * 2)
    for key in ("ExecStart", "ExecStartPost"):
        host.unit("laurels-backup.service", key)
    (backup,) = backups.glob("laurels-*.sqlite3")
    kept = {path.name for path in backups.iterdir()}
    assert kept == {backup.name, "laurels-new", "before-upgrade-old"}

    create_team("Blue")
    host.run(
        SECTIONS["Upgrade"][0].replace(START, "") + SECTIONS["Restore a backup"][1],
        BACKUP=str(backup),
    )
    assert len(list(backups.glob("before-upgrade-*.sqlite3"))) == 1
    teams = requests.get(f"{host.url}/teams/search", timeout=60).json()["data"]
    assert [team["name"] for team in teams] == ["Red"]
    (replaced,) = host.database.parent.glob("laurels-replaced-*.sqlite3")
    assert replaced.stat().st_size == host.database.stat().st_size


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_units(host: Host) -> None:
    host.run(UNTIL_START)
    folder = host.root / "usr/local/lib/systemd/system"
    host.environment["SYSTEMD_UNIT_PATH"] = f"{folder}:"
    services = [str(path) for path in folder.glob("*.service")]
    timers = [str(path) for path in folder.glob("*.timer")]
    assert (len(services), len(timers)) == (3, 2)
    verify = ["systemd-analyze", "verify", *services, *timers]
    secure = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"]
    for command in (verify, *([*secure, service] for service in services)):
        result = subprocess.run(
            command, env=host.environment, check=False, capture_output=True, text=True
        )
        assert (result.returncode, result.stderr) == (0, ""), result.stdout


def test_limits_of_the_units() -> None:
    """They suffice for connections; clouds' secrets are out of reach, but bots are not."""
    folder = ROOT / "deploy/systemd"
    text = (folder / "laurels.service").read_text() + (folder / COMMON).read_text()
    unit = dict(re.findall(r"^(\w+)=(.+)$", text, re.MULTILINE))
    gunicorn = runpy.run_path(str(ROOT / "gunicorn.conf.py"))
    assert gunicorn["worker_connections"] < 1024 < int(unit["LimitNOFILE"])
    assert unit["MemoryMax"] == "75%"
    denied = [ip_network(network) for network in unit["IPAddressDeny"].split()]
    addresses = {"169.254.169.254", "fe80::a9fe:a9fe", "fd00:ec2::254"}
    addresses |= {"127.0.0.1", "::1", "10.0.0.1", "192.168.0.1", "fd00::1", "162.159.128.233"}
    closed = {one for one in addresses if any(ip_address(one) in network for network in denied)}
    assert closed == {"169.254.169.254", "fe80::a9fe:a9fe", "fd00:ec2::254"}


@pytest.mark.parametrize("part", ["requirements", "requirements-postgresql", "requirements-dev"])
def test_locks(part: str) -> None:
    """Requirements and their own dependencies are pinned by hashes."""
    wanted = re.findall(
        r"^([\w-]+)(?:\[\w+\])?==(\S+)", (ROOT / f"{part}.txt").read_text(), re.MULTILINE
    )
    lock = (ROOT / f"{part}.lock").read_text()
    pinned = re.findall(
        r"^([\w-]+)==(\S+)(?: ; .+)? \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE
    )
    assert set(wanted) <= set(pinned)
    assert len(pinned) == len(re.findall(r"^\w", lock, re.MULTILINE))


def test_nothing_is_installed_but_what_is_locked() -> None:
    """By the guide and in the image; and nothing is missing."""
    for name in ("deploy/Dockerfile", "docs/deploy.md"):
        for line in re.findall(r"^.*pip install.*$", (ROOT / name).read_text(), re.MULTILINE):
            assert "--require-hashes --only-binary :all: -r requirements" in line
    pip = f"{BIN}/pip install --dry-run --no-index --quiet --require-hashes -r requirements.lock"
    result = subprocess.run(shlex.split(pip), cwd=ROOT, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


@pytest.mark.parametrize(("write", "site"), PROXIES)
def test_proxies(write: Write, site: str, tmp_path: Path) -> None:
    """The server is told the client's address as the proxy sees it, not as the client says."""
    told: list[dict[str, str]] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length", 0)))
        told.append(dict(request.headers))
        request.send_response(204)
        request.end_headers()

    with HttpServer(answer) as upstream, proxy(write, site, tmp_path, upstream.port) as port:
        forged = dict.fromkeys(("X-Forwarded-For", "X-Forwarded-Host"), "192.0.2.1")
        url, large = f"http://127.0.0.1:{port}/teams/new", bytes(2**20 + 1)
        status = requests.post(url, data=large, headers=forged, timeout=60).status_code
    assert status == 204
    (headers,) = told
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["X-Forwarded-Host"].split(":")[0] == "127.0.0.1"
    assert headers["X-Forwarded-Proto"] == "http"


def test_move_to_postgresql(
    host: Host, postgresql: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are moved, and no id is given again."""
    flask(host.database, "db", "upgrade")
    old = create_app(Settings(database_url=url_of(host.database)))
    community = Community(old)
    team = community.team("Red")
    deleted = community.team("Blue")
    community.account(5, team, name="Ann \N{GRINNING FACE}")
    community.award(team, 5, points=7)
    bot = community.bot(APP_PERMISSIONS)
    assert old.test_client().delete(f"/team/{deleted}", auth=bot).status_code == 204
    paths = ("/account/5", "/standings", "/awards/search", "/accounts/search?q=ann")
    before = [old.test_client().get(path).get_json() for path in paths]
    with old.app_context():
        db.engine.dispose()
    del old, community
    gc.collect()  # an app uses the database until it is deleted
    host.run(UNTIL_START)
    create, copy, _, listen = SECTIONS["Move to PostgreSQL"]
    host.run(create, **postgresql.environment)
    host.run(copy.replace(START, ""), PGUSER="laurels")
    monkeypatch.setenv("PGHOST", postgresql.environment["PGHOST"])
    monkeypatch.setenv("PGUSER", "laurels")
    new = create_app(Settings(database_url="postgresql+psycopg:///laurels"))
    assert [new.test_client().get(path).get_json() for path in paths] == before
    made = new.test_client().post("/teams/new", json={"name": "Green"}, auth=bot)
    assert made.get_json()["id"] == deleted + 1
    host.run(listen, **postgresql.environment)
    with connected(postgresql.url("postgres")) as connection:
        (rule,) = connection.exec_driver_sql(
            "SELECT user_name, auth_method, error FROM pg_hba_file_rules WHERE address = '10.0.0.0'"
        )
        assert rule == (["laurels"], "scram-sha-256", None)
        settings = connection.exec_driver_sql("SELECT name, setting FROM pg_file_settings").all()
        assert {("listen_addresses", "*"), ("max_connections", "200")} <= set(map(tuple, settings))
    with new.app_context():
        db.engine.dispose()


def test_restore_on_postgresql(postgresql: Cluster, tmp_path: Path) -> None:
    """All or nothing; and a backup from before an upgrade, after it, leaves no newer tables."""
    section = SECTIONS["Move to PostgreSQL"]
    (guide,) = re.findall(r"^runuser -u laurels -- (.*)", section[2], re.DOTALL)
    assert f"dump {guide}docker compose" in "".join(SECTIONS["Docker"])
    whole, part = tmp_path / "whole.dump", tmp_path / "part.dump"
    with postgresql.new() as new:
        database = new.replace("postgres@", "owner@")
        name = new.rsplit("/", 1)[-1].split("?")[0]
        with connected(new) as connection:
            connection.exec_driver_sql(
                f"CREATE ROLE owner LOGIN; ALTER DATABASE {name} OWNER TO owner"
            )
        owner = {"PGUSER": "owner", "PGDATABASE": name}
        settings = environment(database) | postgresql.environment | owner

        def run(script: str) -> str:
            command = ["bash", "-c", script]
            result = subprocess.run(
                command, env=settings, check=False, capture_output=True, text=True
            )
            return result.stdout + result.stderr

        def tables() -> set[str]:
            with connected(database) as connection:
                return set(inspect(connection).get_table_names())

        flask(database, "db", "upgrade", "0001")
        older = tables()
        assert run(f"pg_dump -Fc -f {whole}") == ""
        part.write_bytes(whole.read_bytes()[:-100])
        flask(database, "db", "upgrade")
        newer = tables()
        assert "end of file" in run(guide.replace("$BACKUP", f"{part}"))
        assert (tables(), older < newer) == (newer, True)
        for there, app in ((older, "first"), (newer, "second")):
            assert run(guide.replace("$BACKUP", f"{whole}")) == ""
            assert tables() == there
            flask(database, "db", "upgrade")
            flask(database, "apps", "create", app)
            assert run(f"pg_dump -Fc -f {whole}") == ""
        listed = flask(database, "apps", "list")
        assert all(app in listed for app in ("first", "second"))
