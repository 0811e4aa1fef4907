"""Signing in with Discord, against a stand-in on a socket."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from integrations import discord as discord_api
from models import now
from permissions import ACCOUNT_PERMISSIONS, APP_PERMISSIONS
from tests.support.community import Caller, Community, issues, refusal
from tests.support.receiver import Discord
from tests.support.stopwatch import Stopwatch

APPLICATION = 77
ANN = 80351110224678912
BAD = "unknown"
VALUES: list[Any] = [None, 5, "", [], "x" * 2048]
GARBAGE: list[Any] = [
    b"",
    b"not json",
    b"[]",
    b"null",
    b'{"a": ' + b"[" * 50_000,
    b"\xff\xfe",
    {},
    {"user": {"id": "1", "username": "x"}},
    {"application": {"id": "77"}},
    {"application": {"id": "77"}, "scopes": "identify"},
    {"application": {"id": "77"}, "user": {"id": "x", "username": "ann"}},
    {"application": {"id": "77"}, "user": {"id": "5", "username": "a\0"}},
    {"application": {"id": "77"}, "user": {"id": "5"}},
    {"application": {"id": "77"}, "user": {"id": "5", "username": "a", "avatar": "../x"}},
    {"application": "77", "user": {"id": "5", "username": "ann"}},
]


@pytest.fixture
def discord() -> Iterator[Discord]:
    """Return a stand-in for Discord."""
    discord_api.LIMITER.storage.reset()
    with Discord() as discord:
        yield discord


@pytest.fixture
def make(make_app: Callable[..., Flask], discord: Discord) -> Callable[..., Flask]:
    """Make apps that ask the stand-in."""

    def make(**settings: object) -> Flask:
        common = {"discord_api_url": f"{discord.url}/api", "discord_client_id": APPLICATION}
        return make_app(**(common | {"discord_rate_limit": "1000/minute"} | settings))

    return make


@pytest.fixture
def anybody(make: Callable[..., Flask]) -> Caller:
    """Return a client without credentials of such an app."""
    return Caller(make().test_client(), None)


def test_a_new_member(anybody: Caller, discord: Discord) -> None:
    discord.member(ANN, "good")
    response = anybody("POST", "/auth/discord", {"token": "good"})
    assert response.status_code == 200
    session = response.get_json()
    assert set(session) == {"username", "password", "expires_at"}
    assert abs(session["expires_at"] - now() - 30 * 86400) < 60
    user = Caller(anybody.client, (session["username"], session["password"]))
    me = user("GET", "/auth/me").get_json()
    assert abs(me.pop("created_at") - now()) < 60
    assert me == {
        "id": str(ANN),
        "name": "ann",
        "discriminator": "0",
        "avatar_url": f"https://cdn.discordapp.com/embed/avatars/{(ANN >> 22) % 6}.png",
        "team": None,
        "permissions": 0,
        "awards": [],
    }
    request = discord.requests[0]
    assert request["authorization"] == "Bearer good"
    assert request["user-agent"].startswith("DiscordBot (http://localhost, 1.")
    events = Community(anybody.client.application).dump()["events"]
    assert [event[1:4:2] for event in events] == [("account_create", f"account {ANN}")]


def test_a_known_member(anybody: Caller, discord: Discord) -> None:
    community = Community(anybody.client.application)
    community.account(ANN, None, name="Chosen")
    before = community.dump()
    discord.member(ANN, "good")
    for _ in range(2):
        assert anybody("POST", "/auth/discord", {"token": "good"}).status_code == 200
    after = community.dump()
    assert after["accounts"] == before["accounts"]
    assert after["events"] == []
    assert len(after["sessions"]) == 2


def test_signups_closed(make: Callable[..., Flask], discord: Discord) -> None:
    app = make(signups_open=False)
    anybody = Caller(app.test_client(), None)
    discord.member(ANN, "good")
    assert refusal(anybody("POST", "/auth/discord", {"token": "good"})) == 403
    assert Community(app).dump()["accounts"] == []
    Community(app).account(ANN)
    assert anybody("POST", "/auth/discord", {"token": "good"}).status_code == 200


@pytest.fixture
def bad_tokens(discord: Discord) -> list[str]:
    """Return tokens that are bad, each for a reason of its own."""
    discord.member(ANN, "no identify")
    del discord.replies["no identify"]["user"]
    discord.replies["no-identify"] = discord.replies.pop("no identify")
    discord.member(ANN, "other-application")
    discord.replies["other-application"]["application"] = {"id": "78"}
    discord.replies["forbidden"] = 403
    known = ["no-identify", "other-application", "forbidden"]
    return [*known, "unknown", "a b", "a\nb", "é", "\ud800"]


def test_bad_tokens(anybody: Caller, bad_tokens: list[str]) -> None:
    community = Community(anybody.client.application)
    community.account(ANN)
    before = community.dump()
    for token in bad_tokens:
        response = anybody("POST", "/auth/discord", {"token": token})
        assert refusal(response) == 401
        assert response.headers["WWW-Authenticate"] == "Bearer error=invalid_token"
        changes = {"discord_token": token}
        found = issues(anybody("PATCH", f"/account/{ANN}", changes))
        assert found == [("body discord_token", "invalid")]
        assert token not in response.text
    for token in ("unknown", ""):
        nowhere = issues(anybody("PATCH", "/account/x", {"discord_token": token}))
        assert ("path account", "not_found") in nowhere
    assert issues(anybody("PATCH", "/account/5", {"discord_token": "unknown"})) == [
        ("body discord_token", "invalid"),
        ("path account", "not_found"),
    ]
    bodies = [{"token": value} for value in VALUES]
    for body in bodies:
        assert {loc for loc, _ in issues(anybody("POST", "/auth/discord", body))} == {"body token"}
        changes = {"discord_token": body["token"]}
        expected = 401 if body["token"] is None else 422
        assert anybody("PATCH", f"/account/{ANN}", changes).status_code == expected
    assert community.dump() == before


def test_a_token_of_any_application_where_none_is_set(
    make: Callable[..., Flask], bad_tokens: list[str]
) -> None:
    anybody = Caller(make(discord_client_id=None).test_client(), None)
    assert anybody("POST", "/auth/discord", {"token": bad_tokens[1]}).status_code == 200
    assert refusal(anybody("POST", "/auth/discord", {"token": bad_tokens[0]})) == 401


def test_a_user_is_enough_whatever_the_scopes_say(anybody: Caller, discord: Discord) -> None:
    discord.member(ANN, "good")
    for scopes in ([], ["guilds"]):
        discord.replies["good"]["scopes"] = scopes
        assert anybody("POST", "/auth/discord", {"token": "good"}).status_code == 200
    del discord.replies["good"]["scopes"]
    assert anybody("POST", "/auth/discord", {"token": "good"}).status_code == 200


@pytest.mark.parametrize("reply", [500, 503, 404, 302, *GARBAGE], ids=lambda reply: str(reply)[:40])
def test_discord_s_faults_are_not_the_token_s(
    anybody: Caller, discord: Discord, reply: Any
) -> None:
    discord.replies["good"] = reply
    assert refusal(anybody("POST", "/auth/discord", {"token": "good"})) == 502
    Community(anybody.client.application).account(ANN)
    assert refusal(anybody("PATCH", f"/account/{ANN}", {"discord_token": "good"})) == 502


def test_discord_asks_to_wait(anybody: Caller, discord: Discord) -> None:
    discord.replies["good"] = 429
    response = anybody("POST", "/auth/discord", {"token": "good"})
    assert refusal(response) == 503
    assert response.headers["Retry-After"] == "8"


def test_discord_is_away(anybody: Caller, discord: Discord) -> None:
    discord.stop()
    assert refusal(anybody("POST", "/auth/discord", {"token": "good"})) == 502


def test_nobody_waits_while_discord_is_waited_for(
    anybody: Caller, discord: Discord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discord_api, "SECONDS", 60)
    app = anybody.client.application
    bot = Caller(app.test_client(), Community(app).bot(APP_PERMISSIONS))
    Community(app).account(ANN)
    discord.replies["slow"] = "hang"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            Caller(app.test_client(), None), "PATCH", f"/account/{ANN}", {"discord_token": "slow"}
        )
        while not discord.requests:
            time.sleep(0.001)
        for number in range(20):
            assert bot("POST", "/teams/new", {"name": f"{number}"}).status_code == 201
        assert not waiting.done()
        discord.end.set()
        assert refusal(waiting.result()) == 502


def test_discord_is_waited_for_so_long_and_no_longer(
    anybody: Caller, discord: Discord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discord_api, "SECONDS", 1.0)
    discord.replies["slow"] = "hang"
    with Stopwatch() as watch:
        assert refusal(anybody("POST", "/auth/discord", {"token": "slow"})) == 502
    assert watch.seconds >= 1
    assert watch.own_seconds < 1.5


def test_few_may_wait_for_discord_at_once(
    make: Callable[..., Flask], discord: Discord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that there are always threads left for everybody else."""
    monkeypatch.setattr(discord_api, "SECONDS", 60)
    app = make()
    discord.replies["slow"] = "hang"

    def log_in(_: int) -> int:
        return app.test_client().post("/auth/discord", json={"token": "slow"}).status_code

    with ThreadPoolExecutor(discord_api.AT_ONCE) as pool:
        waiting = pool.map(log_in, range(discord_api.AT_ONCE))
        while len(discord.requests) < discord_api.AT_ONCE:
            time.sleep(0.001)
        assert [log_in(number) for number in range(5)] == [503] * 5
        discord.end.set()
        assert list(waiting) == [502] * discord_api.AT_ONCE
    discord.member(ANN, "good")
    assert app.test_client().post("/auth/discord", json={"token": "good"}).status_code == 200


def test_patch(anybody: Caller, discord: Discord) -> None:
    """Name, discriminator and avatar come from Discord, with no credentials at all."""
    app = anybody.client.application
    community = Community(app)
    community.account(ANN, community.team(), name="Old", discriminator="0042")
    discord.member(ANN, "good", username="new", discriminator="1337", avatar="a_1f")
    response = anybody("PATCH", f"/account/{ANN}", {"discord_token": "good"})
    assert response.status_code == 200
    body = response.get_json()
    assert (body["name"], body["discriminator"]) == ("new", "1337")
    assert body["avatar_url"] == f"https://cdn.discordapp.com/avatars/{ANN}/a_1f.gif"
    assert body["team"]["name"] == "Red"
    assert body == anybody("GET", f"/account/{ANN}").get_json()
    community.account(5)
    assert refusal(anybody("PATCH", "/account/5", {"discord_token": "good"})) == 403


def test_patch_with_more_than_the_token(anybody: Caller, discord: Discord) -> None:
    app = anybody.client.application
    community = Community(app)
    user = community.user(ANN)
    team = community.team()
    discord.member(ANN, "good")
    path, both = f"/account/{ANN}", {"discord_token": "good", "team": team}
    before = community.dump()
    assert refusal(anybody("PATCH", path, both)) == 401
    wrong = Caller(app.test_client(), ("S1", "wrong"))
    assert refusal(wrong("PATCH", path, {"discord_token": "good"})) == 401
    nonsense = {"headers": {"Authorization": "nonsense"}, "json": {"discord_token": "good"}}
    assert refusal(anybody.client.patch(path, **nonsense)) == 401
    member = Caller(app.test_client(), user)
    assert refusal(member("PATCH", path, both | {"name": "Z"})) == 403
    assert community.dump() == before
    body = member("PATCH", path, both).get_json()
    assert (body["name"], body["team"]["id"]) == ("ann", team)
    admin = Caller(app.test_client(), community.user(5, ACCOUNT_PERMISSIONS))
    body = admin("PATCH", path, {"discord_token": "good", "name": "Given"}).get_json()
    assert body["name"] == "ann"


def test_a_change_made_while_discord_was_waited_for_stays(
    anybody: Caller, discord: Discord, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = anybody.client.application
    community = Community(app)
    community.account(ANN)
    team = community.team()
    discord.member(ANN, "good")
    identify = discord_api.identify

    def meanwhile(token: str) -> discord_api.DiscordUser:
        user = identify(token)
        community.set(ANN, team_id=team, permissions=8)
        return user

    monkeypatch.setattr("api.endpoints.identify", meanwhile)
    body = anybody("PATCH", f"/account/{ANN}", {"discord_token": "good"}).get_json()
    assert (body["name"], body["team"]["id"], body["permissions"]) == ("ann", team, 8)


@pytest.mark.parametrize(
    ("discriminator", "avatar", "path"),
    [
        ("0", None, f"embed/avatars/{(ANN >> 22) % 6}.png"),
        ("0001", None, "embed/avatars/1.png"),
        ("1337", None, "embed/avatars/2.png"),
        ("0", "8342729096ea", f"avatars/{ANN}/8342729096ea.png"),
        ("1337", "a_bc", f"avatars/{ANN}/a_bc.gif"),
    ],
)
def test_avatars(
    make: Callable[..., Flask], discord: Discord, discriminator: str, avatar: str | None, path: str
) -> None:
    anybody = Caller(make(discord_cdn_url="http://cdn").test_client(), None)
    discord.member(ANN, "good", discriminator=discriminator, avatar=avatar)
    anybody("POST", "/auth/discord", {"token": "good"})
    assert anybody("GET", f"/account/{ANN}").get_json()["avatar_url"] == f"http://cdn/{path}"


def test_the_limit(make: Callable[..., Flask], discord: Discord) -> None:
    """Each address has a limit, counted before Discord is asked, and only if it would be."""
    client = make(discord_rate_limit="3/minute", trusted_proxies=1).test_client()

    def log_in(address: str, token: object = BAD) -> Any:
        headers = {"X-Forwarded-For": f"6.6.6.6, {address}"}
        return client.post("/auth/discord", json={"token": token}, headers=headers)

    assert [log_in("1.1.1.1", 5).status_code for _ in range(5)] == [422] * 5
    assert [log_in("1.1.1.1").status_code for _ in range(4)] == [401] * 3 + [429]
    refused = log_in("1.1.1.1")
    assert refusal(refused) == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    changes = {"json": {"discord_token": "bad"}, "headers": {"X-Forwarded-For": "1.1.1.1"}}
    assert refusal(client.patch(f"/account/{ANN}", **changes)) == 429
    assert log_in("2.2.2.2").status_code == 401
    assert len(discord.requests) == 4


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("2001:db8:0:1::1", "2001:DB8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:2::1"),
        ("fe80::1%eth0", "fe80::2", "fe80:0:0:1::1"),
        ("::ffff:1.1.1.1", "1.1.1.1", "::ffff:1.1.1.2"),
        ("1.1.1.1", "1.1.1.1", "1.1.1.2"),
        ("somebody", "somebody", "somebody else"),
    ],
)
def test_who_is_one_client(
    make: Callable[..., Flask], discord: Discord, one: str, same: str, other: str
) -> None:
    """One client may have an IPv6 network of 2^64 addresses."""
    client = make(discord_rate_limit="1/minute").test_client()

    def log_in(address: str) -> int:
        environ = {"REMOTE_ADDR": address}
        options = {"json": {"token": BAD}, "environ_overrides": environ}
        return client.post("/auth/discord", **options).status_code

    assert [log_in(address) for address in (one, same, other)] == [401, 429, 401]
    assert len(discord.requests) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_refused_too_often(
    make: Callable[..., Flask], discord: Discord, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Whoever asks, Discord is left alone before it blocks us, until the refusals are old."""
    assert discord_api.REFUSALS == 5000
    monkeypatch.setattr(discord_api, "REFUSALS", 3 * workers)
    anybody = Caller(make(workers=workers).test_client(), None)
    community = Community(anybody.client.application)
    community.account(ANN)
    discord.replies |= {"forbidden": 403, "slow-down": 429, "broken": 500}
    discord.member(ANN, "good")
    asked = ["good", "broken", "unknown", "forbidden", "good", "slow-down", "good"]
    answers = [anybody("POST", "/auth/discord", {"token": token}) for token in asked]
    assert [answer.status_code for answer in answers] == [200, 502, 401, 401, 200, 503, 503]
    assert len(discord.requests) == 6
    assert 590 < int(answers[-1].headers["Retry-After"]) <= 600
    assert refusal(anybody("PATCH", f"/account/{ANN}", {"discord_token": "good"})) == 503
    later = time.time() + 601
    monkeypatch.setattr("time.time", lambda: later)
    assert anybody("POST", "/auth/discord", {"token": "good"}).status_code == 200


def test_two_first_log_ins_at_once(anybody: Caller, discord: Discord) -> None:
    app = anybody.client.application
    discord.member(ANN, "good")

    def log_in(_: int) -> int:
        return app.test_client().post("/auth/discord", json={"token": "good"}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(log_in, range(8))) == [200] * 8
    after = Community(app).dump()
    assert (len(after["accounts"]), len(after["sessions"]), len(after["events"])) == (1, 8, 1)


def test_the_token_is_neither_stored_nor_logged(
    anybody: Caller, discord: Discord, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    discord.member(ANN, "sesame-good")
    discord.replies["sesame-garbage"] = b"x"
    for token in ("sesame-good", "sesame-garbage", "sesame-bad"):
        assert "sesame" not in anybody("POST", "/auth/discord", {"token": token}).text
    discord.stop()
    anybody("POST", "/auth/discord", {"token": "sesame-good"})
    assert "sesame" not in caplog.text
    assert "sesame" not in str(Community(anybody.client.application).dump())
