"""Every request's id, line in the log, and careful headers."""

import json
import logging
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
import requests
from flask import Flask
from flask.logging import default_handler
from flask.testing import FlaskClient

from config import VERSION
from permissions import Permission
from tests.support.community import Community, http_basic
from tests.support.databases import Database, url_of
from tests.support.receiver import SECRET, Receiver
from tests.support.server import Server, create_bot

GUARDS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("OPTIONS", "/health", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nothing", 404),
        ("PUT", "/health", 405),
        ("POST", "/teams/new", 401),
        ("GET", "/account/0", 422),
    ],
)
def test_headers(client: FlaskClient, method: str, path: str, status: int) -> None:
    response = client.open(path, method=method)
    assert response.status_code == status
    assert {name: response.headers[name] for name in GUARDS} == GUARDS
    assert re.fullmatch("[0-9a-f]{16}", response.headers["X-Request-ID"])


@pytest.mark.parametrize(
    ("offered", "taken"),
    [("bot-42_A", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("é", False)],
)
def test_request_id(client: FlaskClient, offered: str, taken: bool) -> None:
    given = client.get("/health", headers={"X-Request-ID": offered}).headers["X-Request-ID"]
    assert (given == offered) is taken


def test_an_empty_answer_has_no_type(client: FlaskClient, community: Community) -> None:
    auth = community.bot(Permission.MANAGE_AWARDS)
    award = f"/account/{community.account(10)}/award/{community.award(community.team())}"
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
    for method, status in (("OPTIONS", 200), ("PUT", 201), ("PUT", 208), ("DELETE", 204)):
        response = client.open(award, method=method, auth=auth, headers=preflight)
        assert (response.status_code, response.data) == (status, b"")
        assert "Content-Type" not in response.headers, method
    assert client.head("/health").content_type == "application/json"


MIB = 2**20


@pytest.mark.parametrize(
    ("status", "kept", "headers", "size"),
    [
        (413, False, {}, MIB + 1),
        (413, False, {}, 8 * MIB),
        (413, False, {"Transfer-Encoding": "chunked"}, 8 * MIB),
        (403, False, {"Sec-Fetch-Site": "cross-site"}, MIB),
        (403, False, {"Sec-Fetch-Site": "cross-site", "Transfer-Encoding": "chunked"}, MIB),
        (403, True, {"Sec-Fetch-Site": "cross-site"}, 2**15),
        (401, True, {}, 2**15),
    ],
)
def test_connection(
    server: Server, status: int, kept: bool, headers: dict[str, str], size: int
) -> None:
    """A connection that ends with an answer says so, and the client goes on with a new one."""
    if status != 401:
        headers = headers | {"Authorization": http_basic(create_bot(server.database, "--all"))}
    chunked = "Transfer-Encoding" in headers
    body: bytes | Iterator[bytes] = (b" " * 2**15 for _ in range(size // 2**15))
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(
        "POST", "/teams/new", body if chunked else b" " * size, headers, encode_chunked=chunked
    )
    sock = connection.sock
    with connection.getresponse() as response:
        assert list(json.loads(response.read())) == ["detail"]
        said = response.headers["Connection"]
        assert (response.status, said) == (status, "keep-alive" if kept else "close")
    connection.request("GET", "/health")
    assert (connection.sock is sock) is kept
    with connection.getresponse() as response:
        assert (response.status, response.read()) == (200, b'{"status":"ok"}\n')
    connection.close()


def test_a_connection_with_a_bad_chunk_ends(server: Server) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    auth = http_basic(create_bot(server.database, "--all"))
    headers = {"Authorization": auth, "Transfer-Encoding": "chunked"}
    connection.request("POST", "/teams/new", b"zz\r\n", headers)
    with connection.getresponse() as response:
        assert (response.status, response.headers["Connection"]) == (400, "close")
    connection.close()


def logged(server: Server) -> list[str]:
    """Return the server's log, but for gunicorn's own lines, times and durations."""
    lines = Path(server.log.name).read_text().splitlines()
    ours = [line for line in lines if re.match(r"\[.{25}\] (INFO|WARNING|ERROR) ", line)]
    return [re.sub(r"^\[.{25}\] |[0-9.]+ ms", "", line) for line in ours]


def test_start(database: Database) -> None:
    with Server(database, SIGNUPS_OPEN="no", HOST="0.0.0.0") as server:  # noqa: S104
        lines = logged(server)
    shown = url_of(database).split("?")[0]
    first, discord, public, apps, _health = lines
    assert first == f"INFO [-] Laurels {VERSION}: database {shown}, signups closed"
    assert discord.startswith("WARNING [-] DISCORD_CLIENT_ID is not set: ")
    assert public.startswith("WARNING [-] HOST=0.0.0.0 lets others connect without TLS, ")
    assert apps.startswith("WARNING [-] No app may use the API yet: ")


def test_log(server: Server) -> None:
    """One line for each request and for each delivery, with the request's id, and no secret."""
    username, password = create_bot(server.database, "--all")

    def ask(name: str, method: str, path: str, body: object = None, *, auth: bool = True) -> None:
        requests.request(
            method,
            server.url + path,
            json=body,
            headers={"X-Request-ID": name},
            auth=(username, password) if auth else None,
            timeout=60,
        )

    with Receiver() as receiver:
        ask("r1", "PUT", "/callback/team_create", {"url": receiver.url + "/", "secret": SECRET})
        ask("r2", "POST", "/teams/new", {"name": "Red"})
        ask("r3", "GET", "/teams/search?q=secret", auth=False)
        ask("r4", "GET", "/no%0A2026-01-01%20INFO%20%5Bforged%5D", auth=False)
        ask("r5", "POST", "/auth/discord", {"token": "secret", "x": "y"}, auth=False)
    webhook_id = receiver.attempts[0][0]["webhook-id"]
    begun = logged(server).index("INFO [r1] PUT /callback/team_create 200, , app 1 at 127.0.0.1")
    assert logged(server)[begun:] == [
        "INFO [r1] PUT /callback/team_create 200, , app 1 at 127.0.0.1",
        f"INFO [r2] delivery {webhook_id} callback 1: ok, ",
        "INFO [r2] POST /teams/new 201, , app 1 at 127.0.0.1",
        "INFO [r3] GET /teams/search 200, , nobody at 127.0.0.1",
        "INFO [r4] GET /no?2026-01-01?INFO?[forged] 404, , nobody at 127.0.0.1",
        "INFO [r5] POST /auth/discord 422, , nobody at 127.0.0.1",
    ]
    assert password not in Path(server.log.name).read_text()
    assert SECRET not in Path(server.log.name).read_text()


def test_a_line_in_the_log_outside_of_any_request(app: Flask) -> None:
    record = logging.makeLogRecord({"msg": "hello", "levelname": "INFO"})
    with app.test_request_context():
        assert default_handler.filter(record)
    assert default_handler.format(record).endswith("] INFO [-] hello")
