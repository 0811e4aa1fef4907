"""Bad input: never a 500, always the one shape of errors, and nothing changed."""

import http.client
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from flask.testing import FlaskClient

from permissions import APP_PERMISSIONS
from tests.support.community import As, Caller, Community, http_basic, issues, refusal
from tests.support.server import Server, create_bot

NOT_IDS: list[Any] = [True, False, 5.0, 1.5, -1, "-1", "+5", " 5", "5 ", "5_0", "", "a", "1e3"]
NOT_IDS += [2**63, str(2**63), 10**30, str(10**30), "٥", "５", [], [5], {}, {"id": 5}, "5\0", "0x5"]
NOT_TEXT: list[Any] = [1, 1.5, True, [], {}, ["a"], "a\0", "\0", "a\nb", "\x7f", "\x85", "\ud800"]
NOT_NAMES = [*NOT_TEXT, "", " ", "\u3000 \u2003", "x" * 256, "a\udfff"]
NOT_URLS = [*NOT_TEXT, "", "x", "/x", "//x/y", "ftp://x/y", "http://", "http:///y", "https://:80"]
NOT_URLS += ["http://x:port/", "http://x:99999/", "http://[::1/", "http://a b/", "http://x/a b"]
NOT_URLS += [
    "javascript:alert(1)",
    "http:x",
    "http://x/" + "y" * 2039,
    "http://<x>/",
    "http://[x]/",
]
NOT_DISCRIMINATORS = [-1, 10000, 1.0, True, "", "12345", "-1", "+1", " 1", "1_0", "٤٢", "a", [], {}]
NOT_FLAGS = [-1, 128, 2**64, 10**30, 1.0, "1", True, [], {}]

FIELDS: list[tuple[str, str, str, list[Any]]] = [
    ("POST", "/accounts/new", "id", [0, "0", *NOT_IDS]),
    ("POST", "/accounts/new", "team", NOT_IDS),
    ("POST", "/accounts/new", "name", NOT_NAMES),
    ("POST", "/accounts/new", "avatar_url", NOT_URLS),
    ("POST", "/accounts/new", "discriminator", NOT_DISCRIMINATORS),
    ("POST", "/accounts/new", "permissions", NOT_FLAGS),
    ("PATCH", "/account/10", "team", NOT_IDS),
    ("PATCH", "/account/10", "name", NOT_NAMES),
    ("PATCH", "/account/10", "avatar_url", NOT_URLS),
    ("PATCH", "/account/10", "discriminator", NOT_DISCRIMINATORS),
    ("PATCH", "/account/10", "grant_permissions", NOT_FLAGS),
    ("PATCH", "/account/10", "revoke_permissions", NOT_FLAGS),
    ("POST", "/teams/new", "name", NOT_NAMES),
    ("PATCH", "/team/1", "name", NOT_NAMES),
    ("POST", "/awards/new", "title", NOT_NAMES),
    ("POST", "/awards/new", "image_url", NOT_URLS),
    ("POST", "/awards/new", "team", [0, *NOT_IDS]),
    ("POST", "/awards/new", "accounts", ["10", 10, True, {}, {"0": 10}]),
    ("PATCH", "/award/1", "title", NOT_NAMES),
    ("PATCH", "/award/1", "image_url", NOT_URLS),
    ("PATCH", "/award/1", "team", [0, *NOT_IDS]),
    ("POST", "/auth/create_session", "account", [0, *NOT_IDS]),
]
REQUIRED = {
    "/accounts/new": ["id", "name", "discriminator"],
    "/teams/new": ["name"],
    "/team/1": ["name"],
    "/awards/new": ["title", "image_url", "team", "accounts"],
    "/auth/create_session": ["account"],
}
WITH_A_BODY = sorted({(method, path) for method, path, _, _ in FIELDS})


@pytest.fixture
def admin(community: Community, as_: As) -> Iterator[Caller]:
    """Return an app with all permissions, in a community that must not change."""
    caller = as_(community.bot(APP_PERMISSIONS))
    community.account(10, community.team())
    community.award(1, 10)
    before = community.dump()
    yield caller
    assert community.dump() == before


@pytest.mark.parametrize(("method", "path", "field", "values"), FIELDS)
def test_values(admin: Caller, method: str, path: str, field: str, values: list[Any]) -> None:
    for value in values:
        found = issues(admin(method, path, {field: value}))
        missing = [name for name in REQUIRED.get(path, []) if name != field]
        assert [loc for loc, kind in found if kind == "missing"] == [
            f"body {name}" for name in sorted(missing)
        ]
        bad = [(loc, kind) for loc, kind in found if kind != "missing"]
        assert {loc for loc, _ in bad} == {f"body {field}"}, value
        assert {kind for _, kind in bad} <= {"invalid", "blank", "length"}, value


def test_values_in_a_list(admin: Caller) -> None:
    body = {"title": "T", "image_url": "http://x", "team": 1, "accounts": [0, *NOT_IDS]}
    expected = sorted((f"body accounts {index}", "invalid") for index in range(len(NOT_IDS) + 1))
    assert issues(admin("POST", "/awards/new", body)) == expected


def test_null_in_a_list(admin: Caller) -> None:
    body = {"title": "T", "image_url": "http://x", "team": 1, "accounts": [None, 10, 99, None]}
    assert issues(admin("POST", "/awards/new", body)) == [
        ("body accounts 0", "invalid"),
        ("body accounts 2", "not_found"),
        ("body accounts 3", "invalid"),
    ]


def test_null_is_not_given(admin: Caller) -> None:
    for path, names in REQUIRED.items():
        method = "PATCH" if path == "/team/1" else "POST"
        expected = sorted((f"body {name}", "missing") for name in names)
        assert issues(admin(method, path, dict.fromkeys(names))) == expected
        assert issues(admin(method, path, {})) == expected


@pytest.mark.parametrize(("method", "path"), WITH_A_BODY)
def test_unknown_fields(admin: Caller, method: str, path: str) -> None:
    for name in ("naem", "", "\ud800", "created_at", "name ", "_schema"):
        for value in (1, None):
            assert (f"body {name}", "unknown_field") in issues(admin(method, path, {name: value}))


BODIES = [
    b"",
    b" ",
    b"{",
    b"nonsense",
    b"[]",
    b'"text"',
    b"1",
    b"null",
    b"true",
    b"\xff\xfe{}",
    b'{"name": "\xff"}',
    b'{"name": NaN}',
    b'{"name": Infinity}',
    b'{"name": -Infinity}',
    b'{"name": "a\nb"}',
    b'{"a": 1,}',
    b"{'a': 1}",
    b'{"name": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b"[" * 100_000,
    b'{"id": ' + b"9" * 5000 + b"}",
    json.dumps({"name": "x"}).encode("utf-16"),
]


@pytest.mark.parametrize(("method", "path"), WITH_A_BODY)
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies(admin: Caller, method: str, path: str, body: bytes) -> None:
    response = admin.client.open(path, method=method, data=body, auth=admin.auth)
    assert [loc for loc, _ in issues(response)] == ["body"]


def test_numbers_too_large_for_a_float(admin: Caller) -> None:
    for field in ("id", "team", "discriminator", "permissions"):
        response = admin.client.post("/accounts/new", data=f'{{"{field}": 1e400}}', auth=admin.auth)
        assert (f"body {field}", "invalid") in issues(response)


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "nonsense", "a/b;c=d"]
)
def test_any_content_type_is_json(community: Community, as_: As, content_type: str) -> None:
    bot = as_(community.bot(APP_PERMISSIONS))
    response = bot.client.post(
        "/teams/new", data=b'{"name": "Red"}', content_type=content_type, auth=bot.auth
    )
    assert response.status_code == 201


BAD_IDS = ["abc", "0", "-1", "+1", "1.5", "1e3", "9" * 30, str(2**63), "٥", "%D9%A5", "5_0"]
BAD_IDS += ["%205", "5%20", "%00", "5%00", "%ff", "null", "99", str(2**63 - 1)]


@pytest.mark.parametrize("key", BAD_IDS)
def test_ids_in_the_path(admin: Caller, key: str) -> None:
    for method, path, name in (
        ("GET", "/account/{}", "account"),
        ("PATCH", "/account/{}", "account"),
        ("DELETE", "/account/{}", "account"),
        ("GET", "/team/{}", "team"),
        ("PATCH", "/team/{}", "team"),
        ("DELETE", "/team/{}", "team"),
        ("GET", "/award/{}", "award"),
        ("PATCH", "/award/{}", "award"),
        ("DELETE", "/award/{}", "award"),
        ("PUT", "/account/{}/award/1", "account"),
        ("DELETE", "/account/{}/award/1", "account"),
        ("PUT", "/account/10/award/{}", "award"),
        ("DELETE", "/account/10/award/{}", "award"),
    ):
        body = {"name": "X"} if path == "/team/{}" else {}
        response = admin(method, path.format(key), body)
        assert issues(response) == [(f"path {name}", "not_found")], (method, path)


def test_unknown_paths_and_methods(admin: Caller, client: FlaskClient) -> None:
    for path in ("/", "/account", "/account/", "/account/10/", "/team", "//team/1", "/%ff", "/é"):
        if path != "/":
            assert refusal(client.get(path)) == 404, path
    for method, path in (("DELETE", "/teams/new"), ("PUT", "/account/10"), ("POST", "/health")):
        response = admin(method, path, {})
        assert refusal(response) == 405
        assert response.headers["Allow"]


LIMIT = 2**20


def test_size(admin: Caller) -> None:
    for size, status in ((LIMIT, 422), (LIMIT + 1, 413)):
        for body in (b" " * size, b'{"name": "' + b"x" * (size - 12) + b'"}'):
            assert len(body) == size
            for path in ("/teams/new", "/auth/reset_token?"):
                if path == "/teams/new" or status == 413:
                    response = admin.client.post(path, data=body, auth=admin.auth)
                    assert response.status_code == status


def test_size_of_a_chunked_body_on_a_socket(server: Server) -> None:
    """A body of unknown length is never cut short and taken as complete."""
    auth = create_bot(server.database, "--all")
    for path, size, status in (
        ("/teams/new", LIMIT - 20, 422),
        ("/teams/new", 3 * LIMIT, 413),
        ("/auth/reset_token", 3 * LIMIT, 413),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        padding = (b" " * 2**16 for _ in range(size // 2**16))
        body = iter([b'{"name": ""}', *padding])
        headers = {"Authorization": http_basic(auth), "Transfer-Encoding": "chunked"}
        with suppress(BrokenPipeError, ConnectionResetError):  # there is an answer all the same
            connection.request("POST", path, body, headers, encode_chunked=True)
        with connection.getresponse() as response:
            assert response.status == status
            answer = json.loads(response.read())
        assert set(answer) == {"detail"}
        assert (answer["detail"] == "The body is larger than 1 MiB.") is (status == 413)
        connection.close()


def test_a_chunked_body_that_is_none(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    auth = http_basic(create_bot(server.database, "--all"))
    headers = {"Authorization": auth, "Transfer-Encoding": "chunked"}
    connection.request("POST", "/teams/new", b"zz\r\n", headers, encode_chunked=False)
    with connection.getresponse() as response:
        assert response.status == 400
        assert json.loads(response.read()) == {"detail": "The body cannot be read."}
    connection.close()
