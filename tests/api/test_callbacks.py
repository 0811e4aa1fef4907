"""The endpoints for callbacks."""

import pytest

from models import EventType
from permissions import ACCOUNT_PERMISSIONS, APP_PERMISSIONS
from tests.support.community import As, Community, answer, issues, refusal

TOOLS = (("POST", "test"), ("GET", "deliveries"), ("POST", "deliver"))
HERE = {"url": "http://bot:8001/events", "secret": "s3cret"}


@pytest.mark.parametrize("event", [event.value for event in EventType])
def test_whole_life(community: Community, as_: As, event: str) -> None:
    bot = as_(community.bot())
    path = f"/callback/{event}"
    assert refusal(bot("GET", path)) == 404
    assert refusal(bot("DELETE", path)) == 404
    for method, tool in TOOLS:
        assert refusal(bot(method, f"{path}/{tool}")) == 404
    assert answer(bot("GET", "/callbacks?")) == (200, {"callbacks": {}})
    shown = {"id": 1, "event": event, "url": "http://bot:8001/events"}
    assert answer(bot("PUT", path, HERE)) == (200, shown)
    assert answer(bot("GET", path)) == (200, shown)
    elsewhere = {"url": "https://bot.example/", "secret": "other"}
    assert answer(bot("PUT", path, elsewhere)) == (200, shown | {"url": "https://bot.example/"})
    assert answer(bot("GET", "/callbacks")) == (200, {"callbacks": {event: "https://bot.example/"}})
    response = bot("DELETE", path, {})
    assert (response.status_code, response.data) == (204, b"")
    assert refusal(bot("GET", path)) == 404


def test_each_app_has_its_own(community: Community, as_: As) -> None:
    one, two = as_(community.bot(name="one")), as_(community.bot(name="two"))
    path = "/callback/account_create"
    assert one("PUT", path, HERE).get_json()["id"] == 1
    assert answer(two("GET", "/callbacks")) == (200, {"callbacks": {}})
    assert refusal(two("GET", path)) == 404
    assert refusal(two("DELETE", path)) == 404
    for method, tool in TOOLS:
        assert refusal(two(method, f"{path}/{tool}")) == 404
    assert two("PUT", path, HERE).get_json()["id"] == 2


def test_unknown_events(community: Community, as_: As) -> None:
    bot = as_(community.bot())
    for event in ("account_updated", "ACCOUNT_CREATE", "1", "%00", "%ff"):
        for method in ("GET", "PUT", "DELETE"):
            expected = [("path event", "invalid")]
            if method == "PUT":
                expected = [("body secret", "missing"), ("body url", "missing"), *expected]
            assert issues(bot(method, f"/callback/{event}", {})) == expected
        for method, tool in TOOLS:
            found = issues(bot(method, f"/callback/{event}/{tool}"))
            assert found == [("path event", "invalid")]


@pytest.mark.parametrize(
    "secret",
    ["", " ", " a", "a ", "a\nb", "a\0", "é", "\ud800", "x" * 2048, 5, [], "whsec_", "whsec_!"],
)
def test_bad_secrets(community: Community, as_: As, secret: object) -> None:
    bot = as_(community.bot())
    found = issues(bot("PUT", "/callback/team_create", HERE | {"secret": secret}))
    assert {loc for loc, _ in found} == {"body secret"}
    assert refusal(bot("GET", "/callback/team_create")) == 404


@pytest.mark.parametrize("secret", ["x", "a b", "~" * 2047, "whsec_c2VjcmV0", "tök".encode().hex()])
def test_good_secrets(community: Community, as_: As, secret: str) -> None:
    bot = as_(community.bot())
    response = bot("PUT", "/callback/team_create", HERE | {"secret": secret})
    assert response.status_code == 200
    assert secret not in response.text or len(secret) == 1


def test_bad_urls(community: Community, as_: As) -> None:
    bot = as_(community.bot())
    for url in ("", "x", "ftp://x", "http://", "http://a b", "http://x/" + "y" * 2039, 5):
        found = issues(bot("PUT", "/callback/team_create", HERE | {"url": url}))
        assert {loc for loc, _ in found} == {"body url"}


def test_who_may(community: Community, as_: As) -> None:
    user = as_(community.user(10, ACCOUNT_PERMISSIONS))
    admin = community.bot(APP_PERMISSIONS)
    before = community.dump()
    for caller, status in ((user, 403), (as_(None), 401), (as_((admin[0], "x")), 401)):
        assert refusal(caller("PUT", "/callback/team_create", HERE)) == status
        assert refusal(caller("GET", "/callback/team_create")) == status
        assert refusal(caller("DELETE", "/callback/team_create")) == status
        assert refusal(caller("GET", "/callbacks")) == status
        for method, tool in TOOLS:
            assert refusal(caller(method, f"/callback/team_create/{tool}")) == status
    assert community.dump() == before
