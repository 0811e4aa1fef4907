"""Other web sites: their requests, and what a browser is told about the answers."""

import io
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.community import Community, answer

MakeApp = Callable[..., Flask]

SITE, OTHER = "https://a.example", "http://[::1]"
ORIGINS = [
    SITE,
    OTHER,
    "http://a.example",
    "https://a.example:8443",
    "https://a.example.evil.example",
    "https://evil.example/https://a.example",
    "https://axexample",
    "http://1.evil.example",
    "http://[::1]:8080",
    "null",
    None,
]
ALLOWED = [
    ([], []),
    ([SITE], [SITE]),
    (["HTTPS://A.example", OTHER], [SITE, OTHER]),
    (["*"], ORIGINS),
]
WRITES = [
    ("POST", "/teams/new"),
    ("PATCH", "/team/1"),
    ("DELETE", "/team/1"),
    ("PUT", "/account/1/award/1"),
    ("POST", "/auth/reset_token"),
    ("POST", "/callback/team_create/test"),
    ("POST", "/callback/team_create/deliver"),
]
REFUSED = (
    403,
    {
        "detail": "A website may do this only with a script, and only if the server's host has "
        "named the site in ALLOWED_ORIGINS."
    },
)


def request_headers(site: str | None, mode: str, origin: str | None) -> dict[str, str]:
    """Return the headers in which a browser says where a request comes from."""
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Origin": origin}
    return {name: value for name, value in headers.items() if value is not None}


@pytest.mark.parametrize(("settings", "allowed"), ALLOWED)
def test_writes(make_app: MakeApp, settings: list[str], allowed: list[str | None]) -> None:
    """Without credentials, a write that is not refused for its origin is a 401."""
    client = make_app(allowed_origins=settings).test_client()
    for site in ("cross-site", "same-site", "same-origin", "none", None):
        for mode in ("cors", "no-cors", "navigate"):
            for origin in ORIGINS:
                ours = site in {"same-origin", "none", None}
                passes = ours or (origin in allowed and mode != "navigate")
                headers = request_headers(site, mode, origin)
                for method, path in WRITES:
                    response = client.open(path, method=method, headers=headers)
                    if passes:
                        assert response.status_code == 401, (method, headers)
                    else:
                        assert answer(response) == REFUSED, (method, headers)


def test_a_refused_write_changes_nothing(client: FlaskClient, community: Community) -> None:
    bot = community.user(10)
    before = community.dump()
    headers = request_headers("cross-site", "navigate", "https://evil.example")
    for method, path in (("DELETE", "/account/10"), ("POST", "/auth/reset_token")):
        assert answer(client.open(path, method=method, headers=headers, auth=bot)) == REFUSED
    assert community.dump() == before


class Unread(io.BytesIO):
    """A body that nobody may read."""

    def read(self, _size: int | None = -1) -> bytes:
        """Fail."""
        raise AssertionError


@pytest.mark.parametrize("path", ["/teams/new", "/auth/discord", "/health", "/nothing"])
def test_a_refused_write_is_not_read(client: FlaskClient, path: str) -> None:
    headers = request_headers("same-site", "cors", "https://evil.example")
    for length in ("5", str(2**30)):
        headers["Content-Length"] = length
        assert answer(client.post(path, headers=headers, input_stream=Unread())) == REFUSED


def test_reads_from_anywhere(client: FlaskClient) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        for mode in ("cors", "no-cors", "navigate"):
            headers = request_headers("cross-site", mode, "https://evil.example")
            for path in ("/teams/search", "/openapi.json"):
                assert client.open(path, method=method, headers=headers).status_code == 200


@pytest.mark.parametrize(("settings", "allowed"), ALLOWED)
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/nothing", 404),
        ("POST", "/teams/new", 401),
        ("OPTIONS", "/teams/new", 200),
    ],
)
def test_what_browsers_are_told(  # noqa: PLR0917 - columns of tables of cases
    make_app: MakeApp,
    settings: list[str],
    allowed: list[str | None],
    method: str,
    path: str,
    status: int,
) -> None:
    client = make_app(allowed_origins=settings).test_client()
    for origin in ORIGINS:
        headers = request_headers(None, "cors", origin)
        headers["Access-Control-Request-Method"] = "PATCH"
        headers["Access-Control-Request-Headers"] = "authorization,content-type"
        response = client.open(path, method=method, headers=headers)
        expected = {}
        if settings and settings != ["*"]:
            expected["Vary"] = "Origin"
        if origin in allowed:
            expected |= {
                "Access-Control-Allow-Origin": "*" if settings == ["*"] else str(origin),
                "Access-Control-Expose-Headers": "Retry-After, X-Request-ID",
            }
            if method == "OPTIONS":
                expected |= {
                    "Access-Control-Allow-Headers": "Authorization, Content-Type, *",
                    "Access-Control-Allow-Methods": "DELETE, GET, PATCH, POST, PUT",
                    "Access-Control-Max-Age": "600",
                }
        told = {
            name: value
            for name, value in response.headers
            if name == "Vary" or name.startswith("Access-Control-")
        }
        assert (response.status_code, told) == (status, expected), origin


def test_a_fault_is_told_to_an_allowed_site(make_app: MakeApp) -> None:
    app = make_app(allowed_origins=[SITE])
    app.add_url_rule("/fault", view_func=lambda: str(1 / 0))
    response = app.test_client().get("/fault", headers={"Origin": SITE})
    assert response.status_code == 500
    assert response.headers["Access-Control-Allow-Origin"] == SITE
