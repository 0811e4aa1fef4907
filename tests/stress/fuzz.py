"""Requests of all kinds, by all kinds of callers, to the real server: `make fuzz`.

Schemathesis makes good and bad requests from the API's description. They get existing ids and
credentials of all kinds, and then may be spoilt in ways that no description has.
"""

import json
import re
import socket
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, unquote, urlencode

import click
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from sqlalchemy import text

from api.middleware import REQUEST_ID
from app import create_app
from config import Settings
from database import db, transaction
from permissions import ACCOUNT_PERMISSIONS, APP_PERMISSIONS, Permission
from tests.stress import options, report
from tests.support.community import Auth, Community, http_basic
from tests.support.description import Description
from tests.support.receiver import Discord, HttpServer
from tests.support.server import Server, flask

SLOW = 2.0
"""The number of seconds after which an answer is too late."""

ROUND = 250
"""The number of requests to one community before it is replaced."""

PAGE = re.compile("/(teams|members|awards|search|numbers)(/.*)?", re.DOTALL)
"""Paths of pages for people, whose errors are pages, too."""

MIB = 2**20


@dataclass(frozen=True)
class Request:
    """A request, byte by byte."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    chunked: bool = False
    registers: bool = field(default=False, repr=False)
    """Whether its body holds a URL that the server is going to call."""

    def encode(self) -> bytes:
        """Return the bytes to send."""
        headers = [("Host", "x"), ("Connection", "close"), *self.headers]
        body = self.body or b""
        if self.chunked:
            headers.append(("Transfer-Encoding", "chunked"))
            body = b"".join(
                b"%x\r\n%b\r\n" % (len(part), part)
                for part in [body[at : at + 1000] for at in range(0, len(body), 1000)]
            )
            body += b"0\r\n\r\n"
        elif self.body is not None:
            headers.append(("Content-Length", str(len(body))))
        lines = [f"{self.method} {self.target} HTTP/1.1", *map(": ".join, headers), "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace") + body


@dataclass(frozen=True)
class Answer:
    """The answer; status 0 means that there was none."""

    status: int
    headers: Any
    body: bytes
    seconds: float


class World:
    """A community in the server's database, the servers around it, and callers of all kinds."""

    def __init__(self, community: Community, chance: Random) -> None:
        self.community, self.chance = community, chance
        self.discord = Discord().__enter__()
        self.receiver = HttpServer(self._receive).__enter__()

    def close(self) -> None:
        self.discord.stop()
        self.receiver.stop()
        with self.community.app.app_context():
            db.engine.dispose()

    def begin(self) -> None:
        """Replace the community with a new one."""
        with self.community.app.app_context(), transaction(write=True):
            for table in reversed(db.metadata.sorted_tables):
                db.session.execute(table.delete())
            db.session.execute(text("DELETE FROM sqlite_sequence"))
        make, chance = self.community, self.chance
        self.teams = [make.team(name) for name in ("Red", "Élodie's", "%_\\", "Ω")]
        self.accounts = [
            make.account(key, chance.choice([None, *self.teams]))
            for key in (1, 2, 80351110224678912, 2**63 - 1, *range(100, 110))
        ]
        self.awards = [
            make.award(chance.choice(self.teams), *chance.sample(self.accounts, number))
            for number in range(6)
        ]
        self.callers = self._callers()
        self.tokens = ["good", "new", "broken", "odd", "refused", "busy", ""]
        self.discord.member(chance.choice(self.accounts), "good")
        self.discord.member(chance.randrange(1, 2**63), "new")
        self.discord.replies |= {"broken": 500, "odd": b"[", "refused": 403, "busy": 429}

    def _callers(self) -> dict[str, str | None]:
        """Return possible `Authorization` headers, by whose they are."""
        make, chance = self.community, self.chance
        bot = make.bot(APP_PERMISSIONS, "all")
        ended = make.session(self.accounts[0], expires_at=1)
        callers: dict[str, Auth] = {
            "everything": bot,
            "nothing": make.bot(name="nothing"),
            "no token": (bot[0], ""),
            "a wrong token": (bot[0], "x" * 43),
            "an unknown app": ("A99", bot[1]),
            "an unknown kind": ("X1", bot[1]),
            "not a number": ("A" + "9" * 30, bot[1]),
            "ended": ended,
        }
        for permission in APP_PERMISSIONS:
            callers[f"app {permission.label}"] = make.bot(permission, permission.label)
            callers[f"app without {permission.label}"] = make.bot(
                APP_PERMISSIONS & ~permission, f"no {permission.label}"
            )
        for number, held in enumerate([*ACCOUNT_PERMISSIONS, ACCOUNT_PERMISSIONS, Permission(0)]):
            team = chance.choice(self.teams)
            callers[f"member {held!r}"] = make.user(200 + number, held, team)
            self.accounts.append(200 + number)
        odd = {
            "nobody": None,
            "another scheme": "Bearer " + bot[1],
            "not base64": "Basic %%%",
            "not UTF-8": "Basic " + b64encode(b"A1:\xff\xfe").decode(),
            "no colon": "Basic " + b64encode(b"A1").decode(),
            "a NUL": "Basic " + b64encode(b"A1\0:\0").decode(),
            "empty": "",
            "long": "Basic " + "A" * 4000,
        }
        return {name: http_basic(auth) for name, auth in callers.items()} | odd

    def _receive(self, request: BaseHTTPRequestHandler) -> None:
        """Accept any delivery, but refuse some."""
        request.rfile.read(int(request.headers["Content-Length"]))
        request.send_response(500 if request.path == "/refuse" else 204)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def url(self) -> str:
        """Return a URL for a callback: always on this machine."""
        free = "http://127.0.0.1:9/"
        odd = ("", "http://", "ftp://127.0.0.1/", "http://[", "http://127.0.0.1:99999/", " ", "/a")
        ours = [self.receiver.url + path for path in ("/", "/refuse", "/ü?a=b#c", "/" + "a" * 2000)]
        return self.chance.choice([*ours, *ours, free, *odd])

    def renew(self, caller: str, answer: Answer) -> None:
        """Note a new token."""
        new = json.loads(answer.body)
        self.callers[caller] = http_basic((new["username"], new["password"]))


# Requests that schemathesis makes


def cases(document: Any) -> Callable[[int, int], Iterator[Any]]:
    """Return a function that makes a number of requests from a description, with a seed."""
    strategies: list[st.SearchStrategy[Any]] = []
    for operation in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(operation, Ok)
        for mode in GenerationMode:
            strategy = operation.ok().as_strategy(generation_mode=mode)
            with suppress(Unsatisfiable):  # an endpoint without input cannot get bad input
                _draw(strategy, 1, 0)
                strategies.append(strategy)
    return lambda count, seed_: iter(_draw(st.one_of(strategies), count, seed_))


def _draw(strategy: st.SearchStrategy[Any], count: int, seed_: int) -> list[Any]:
    drawn: list[Any] = []

    @seed(seed_)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(one: Any) -> None:
        drawn.append(one)

    draw()
    return drawn


def request_of(case: Any, world: World) -> Request:
    """Return the request of a case, usually with existing ids."""
    chance = world.chance
    ids = {"account": world.accounts, "team": world.teams, "award": world.awards}
    path = case.path
    for name, value in case.path_parameters.items():
        real = name in ids and chance.random() < 0.8
        path = path.replace(f"{{{name}}}", str(chance.choice(ids[name]) if real else value))
    query = dict(case.query or {})
    if "team" in query and chance.random() < 0.7:
        query["team"] = chance.choice(world.teams)
    body = case.body
    if isinstance(body, dict):
        body = {key: _real(key, value, world) for key, value in body.items()}
    if not isinstance(body, (dict, list, str, int, float, bytes, type(None))):  # there is none
        encoded = None
    else:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(
        case.method,
        path + ("?" + urlencode(query, errors="replace") if query else ""),
        (("Content-Type", "application/json"),),
        encoded,
        registers=path.startswith("/callback/") and case.method == "PUT",
    )


def _real(name: str, value: Any, world: World) -> Any:
    """Return the value of a field, if schemathesis cannot make it."""
    chance = world.chance
    if name == "url":
        return world.url() if isinstance(value, str) else value
    if isinstance(value, str) and chance.random() < 0.2:
        return chance.choice(TEXTS)
    account = chance.choice([str, int])(chance.choice([*world.accounts, 5, 6, 7]))
    known = {
        "account": account,
        "id": account,
        "team": chance.choice([0, *world.teams]),
        "accounts": chance.choices(world.accounts, k=chance.randrange(5)),
        "token": chance.choice(world.tokens),
        "discord_token": chance.choice(world.tokens),
    }
    return known.get(name, value) if chance.random() < 0.7 else value


# Requests that it cannot make

SEGMENTS = (
    "0", "-1", "1.5", "9" * 30, "0" * 40 + "1", "5_0", "%205", "+5", "%D9%A1", "%00", "%0d%0aA:b",
    "%ff", "%ed%a0%80", "..", ".", "", ";a", "a" * 2000, "%25", "%2F", "'", "%F0%9F%98%80", "null",
)  # fmt: skip
QUERIES = (
    "", "page", "page=", "page=9223372036854775807", "page=9223372036854775808", "page=-1", "q=%00",
    "page=1&page=x", "per_page=1000", "per_page=1001", "q=%ff%fe", "q=%ed%a0%80", "q=" + "a" * 256,
    "q=%25_%5C", "team=0", "team=%D9%A1", "q=%F0%9F%98%80", "page=1e3", "per_page=0", "&&=&", "q=+",
    "page=%20" + "9" * 5000, "q=" + "%CC%81" * 200, "q=%EF%B7%BA" * 3,
)  # fmt: skip
TEXTS = (
    "\ud800", "a\udfffb", "\udc00\ud800", "\0", "a\x85", " ", "\ufdfa" * 100, "a" * 256,
)  # fmt: skip
BODIES = (
    b"", b" ", b"null", b"[]", b"1", b'"a"', b"{", b"{}", b'{"name":NaN}', b"[" * 100_000,
    b'{"name":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"name":1e999}', b"\xef\xbb\xbf{}",
    b'{"name":"\\ud800"}', b'{"\\ud800":1}', b'{"name":"a","name":"b"}', b'{"name":"\xff"}',
    b'{"id":' + b"9" * 5000 + b"}", b'{"permissions":-1}', b'{"\\u0000":"\\u0000"}', b"\0" * 100,
    '{"name":"a"}'.encode("utf-16"), '{"name":"a"}'.encode("utf-32"), b" " * MIB + b"{}",
    b'{"name":"' + b"a" * 500_000 + b'"}', json.dumps(dict.fromkeys(range(5000))).encode(),
    b'{"accounts":[' + b",".join([b"0"] * 5000) + b"]}", b'{"name":true}', b'{"team":1.0}',
    b'{"name":" "}', b'{"grant_permissions":127,"revoke_permissions":127}', b'{"__proto__":{}}',
)  # fmt: skip
TYPES = (
    "", "text/plain", "application/json; charset=utf-16", "application/json;charset=\xff", "a", ";",
    "multipart/form-data; boundary=a", "multipart/form-data", "application/x-www-form-urlencoded",
    "application/xml", "application/json, text/html", "a/b; " + "c=d;" * 500,
)  # fmt: skip
HEADERS = (
    ("X-Request-ID", "a b"), ("X-Request-ID", "\xe9" * 100), ("X-Request-ID", "a" * 65),
    ("Origin", "null"), ("Origin", "http://[::1"), ("Origin", "http://b.example"), ("Accept", "a"),
    ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "odd"), ("Sec-Fetch-Mode", "navigate"),
    ("Cookie", "session=a; a=\xff"), ("Range", "bytes=0-,-1"), ("If-None-Match", '"a'),
    ("If-Modified-Since", "yesterday"), ("Accept-Encoding", "gzip;q=a"),
    ("X-Forwarded-For", "a, b"), ("X-Forwarded-Proto", "ftp"), ("Forwarded", "for=a;;"),
    ("X-HTTP-Method-Override", "DELETE"), ("Content-Encoding", "gzip"), ("Expect", "200-ok"),
    ("Access-Control-Request-Method", "PUT"), ("Upgrade", "h2c"),
    ("Expect", "100-continue"), ("Accept-Language", "\xff"), ("A" * 200, "b" * 5000),
)  # fmt: skip
PLACES = (
    "/", "/docs", "/docs/", "/openapi.json", "/pages/docs.js", "/pages/..%2F..%2Fapp.py", "/pages/",
    "/pages/swagger-ui/swagger-ui.css", "/pages/%2Fetc%2Fpasswd", "/pages/%00", "/members/1",
    "/members/x", "/teams", "/teams/1", "/teams/%00", "/awards/1", "/search?q=%00", "/numbers",
)  # fmt: skip
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FROB")


def _path(request: Request, chance: Random) -> Request:
    path, _, query = request.target.partition("?")
    parts = path.split("/")
    parts[chance.randrange(1, len(parts))] = chance.choice(SEGMENTS)
    if chance.random() < 0.2:
        parts.append(chance.choice(SEGMENTS))
    return replace(request, target="/".join(parts) + "?" * bool(query) + query)


def _query(request: Request, chance: Random) -> Request:
    return replace(request, target=request.target.split("?")[0] + "?" + chance.choice(QUERIES))


def _body(request: Request, chance: Random) -> Request:
    return replace(request, body=chance.choice(BODIES), registers=False)


def _bytes(request: Request, chance: Random) -> Request:
    """Change a few bytes, but never those of a URL that the server is going to call."""
    if request.registers or not request.body:
        return request
    body = bytearray(request.body)
    for _ in range(chance.randrange(1, 4)):
        body[chance.randrange(len(body))] = chance.randrange(256)
    return replace(request, body=bytes(body[: chance.randrange(1, 2 * len(body))]))


def _type(request: Request, chance: Random) -> Request:
    kept = tuple(header for header in request.headers if header[0] != "Content-Type")
    return replace(request, headers=(*kept, ("Content-Type", chance.choice(TYPES))))


def _header(request: Request, chance: Random) -> Request:
    return replace(request, headers=(*request.headers, chance.choice(HEADERS)))


def _method(request: Request, chance: Random) -> Request:
    return request if request.registers else replace(request, method=chance.choice(METHODS))


def _chunks(request: Request, _: Random) -> Request:
    return replace(request, chunked=True)


def _place(request: Request, chance: Random) -> Request:
    return replace(request, target=chance.choice(PLACES), registers=False)


SPOIL = (_path, _query, _body, _body, _bytes, _bytes, _type, _header, _method, _chunks, _place)


# Answers


def send(port: int, request: Request) -> Answer:
    """Make a request on a connection of its own."""
    begun_at = time.monotonic()
    status, headers, body = 0, {}, b""
    with (
        suppress(OSError, HTTPException),
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        with suppress(ConnectionError):  # it may be refused before all of it is sent
            connection.sendall(request.encode())
        with HTTPResponse(connection, method=request.method) as response:
            response.begin()
            body = response.read()
            status, headers = response.status, dict(response.getheaders())
    return Answer(status, headers, body, time.monotonic() - begun_at)


def check(description: Description, request: Request, answer: Answer) -> None:
    """Fail if this request may not get such an answer."""
    if answer.status == 0:
        assert len(request.body or b"") > MIB, "no answer"
        return
    assert answer.seconds < SLOW, "slow"
    assert answer.status != 500, "status 500"
    if REQUEST_ID not in answer.headers:
        assert 400 <= answer.status < 500, f"status {answer.status} by gunicorn"
        return
    target = request.target.split("?")[0].split("#")[0]
    path = "/" + unquote(target, errors="replace").lstrip("/")  # as gunicorn reads it
    described = any(pattern.fullmatch(path) for pattern, _ in description.paths)
    assert answer.status < 500 or described, f"status {answer.status}"
    description.check(request.method, path, answer.status, answer.body)
    is_page = answer.headers.get("Content-Type", "").startswith("text/html")
    if answer.status >= 400 and request.method != "HEAD" and not (is_page and PAGE.fullmatch(path)):
        check_error(answer)


def check_error(answer: Answer) -> None:
    """Fail if an error does not have the one shape."""
    assert answer.headers["Content-Type"] == "application/json", "an error that is not JSON"
    body = json.loads(answer.body)
    assert list(body) == ["detail"], body
    if answer.status != 422:
        assert isinstance(body["detail"], str), body
        assert body["detail"].strip(), body
        return
    assert 1 <= len(body["detail"]) <= 100, f"{len(body['detail'])} issues"
    for one in body["detail"]:
        assert sorted(one) == ["loc", "msg", "type"], one
        assert one["loc"][0] in {"path", "query", "body"}, one
        assert all(isinstance(part, str) for part in [*one["loc"], one["msg"], one["type"]]), one


class Fuzz:
    """A run: its requests, the answers, and the faults."""

    def __init__(self, server: Server, world: World, description: Description) -> None:
        self.server, self.world, self.description = server, world, description
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self.faults: list[str] = []

    def ask(self, case: Any) -> None:
        chance, world = self.world.chance, self.world
        caller = "everything" if chance.random() < 0.4 else chance.choice(list(world.callers))
        request = request_of(case, world)
        credentials = world.callers[caller]
        if credentials is not None:
            headers = (*request.headers, ("Authorization", credentials))
            request = replace(request, headers=headers)
        for _ in range(chance.choice([0, 0, 0, 1, 1, 2])):
            request = chance.choice(SPOIL)(request, chance)
        if not request.target.isascii():
            request = replace(request, target=quote(request.target, safe="/?&=%"))
        answer = send(self.server.port, request)
        self.statuses[answer.status] += 1
        self.slowest = max(self.slowest, answer.seconds)
        try:
            check(self.description, request, answer)
        except (AssertionError, ValueError, LookupError) as error:
            shown = f"{request!r:.600} by {caller}: {answer.status} {answer.body[:300]!r}"
            self.faults.append(f"{error!r:.300}: {shown}, {answer.seconds:.2f} s")
        if (request.method, request.target, answer.status) == ("POST", "/auth/reset_token", 200):
            world.renew(caller, answer)


def main() -> None:
    given_ = options("Send the server all kinds of requests.", "requests", 2000)
    chance = Random(given_.seed)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        database = Path(folder) / "laurels.db"
        flask(database, "db", "upgrade")
        with click.Context(click.Command("flask")):  # not a server, which logs what it lacks
            app = create_app(Settings(database_url=f"sqlite:///{database}", log_level="ERROR"))
        world = World(Community(app), chance)
        stack.callback(world.close)
        server = stack.enter_context(
            Server(
                database,
                DISCORD_API_URL=world.discord.url + "/api",
                DISCORD_RATE_LIMIT="100000/second",
                CALLBACK_TIMEOUT="1s",
            )
        )
        document = app.test_client().get("/openapi.json").get_json()
        fuzz = Fuzz(server, world, Description(document))
        draw = cases(document)
        asked = 0
        while asked < given_.count:
            world.begin()
            for case in draw(min(ROUND, given_.count - asked), chance.randrange(2**32)):
                fuzz.ask(case)
                asked += 1
        if server.process.poll() is not None:
            fuzz.faults.append("the server ended")
        if "Traceback" in Path(server.log.name).read_text():
            fuzz.faults.append("a traceback in the log")
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(fuzz.statuses.items()))
    report(f"{asked} requests, slowest {fuzz.slowest:.2f} s: {statuses}", fuzz.faults)


if __name__ == "__main__":
    main()
