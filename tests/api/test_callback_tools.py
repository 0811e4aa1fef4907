"""The tools with which a bot's author tests and mends a callback: test, deliveries, deliver."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from config import VERSION
from database import db, transaction
from models import Callback, Delivery, EventType, now
from tests.api.test_delivery import DAY, PATIENCE, TIMEOUT, UPDATE, World
from tests.support.community import Caller, answer
from tests.support.receiver import SECRET, Receiver
from tests.support.stopwatch import Stopwatch

TEST, DELIVERIES, DELIVER = f"{UPDATE}/test", f"{UPDATE}/deliveries", f"{UPDATE}/deliver"
NOTHING: dict[str, Any] = {
    "waiting": 0,
    "since": None,
    "resting_until": None,
    "last_error": None,
    "deliveries": [],
}


@pytest.fixture
def world(make_app: Callable[..., Flask]) -> Iterator[World]:
    """Return an app with a callback at a receiver that listens."""
    with Receiver() as receiver:
        yield World(make_app(callback_timeout=timedelta(seconds=PATIENCE)), receiver)


def ask(world: World, method: str, path: str) -> Any:
    """Return the body of a good answer."""
    status, body = answer(world.bot(method, path))
    assert status == 200, body
    return body


def rows(world: World, model: type[Callback | Delivery]) -> list[dict[str, Any]]:
    """Return all callbacks, or all deliveries, as they are stored."""
    names = [column.name for column in model.__table__.columns]
    stored = world.community.dump()[model.__tablename__]
    return [dict(zip(names, row, strict=True)) for row in stored]


def keep_waiting(world: World, *keys: int) -> list[str]:
    """Move accounts while another server has the lease; return the waiting deliveries' ids."""
    world.set(Callback, lease="elsewhere:1:x", leased_until=now() + 30)
    before = len(rows(world, Delivery))
    for key in keys:
        world.move(key)
    world.set(Callback, lease=None)
    return [row["webhook_id"] for row in rows(world, Delivery)[before:]]


def test_a_ping_is_no_delivery(world: World) -> None:
    """It has all the headers of one, but changes nothing and is not stored."""
    before = world.community.dump()
    body = ask(world, "POST", TEST)
    seconds = body.pop("seconds")
    assert 0 < seconds < TIMEOUT
    assert body == {"status": 200, "error": None}
    ((headers, sent),) = world.receiver.attempts  # it verifies the signature and the secret
    assert sent == {"ping": "account_team_update"}
    assert headers["webhook-id"].startswith("ping_")
    assert headers["laurels-event"] == "account_team_update"
    assert headers["user-agent"] == f"Laurels/{VERSION}"
    assert world.community.dump() == before
    ask(world, "POST", TEST)
    assert len(set(world.receiver.ids)) == 2


@pytest.mark.parametrize(
    ("mode", "status", "error"),
    [
        (204, 204, ""),
        (500, 500, "answered with status 500"),
        (302, 302, "answered with status 302"),
        ("hang", None, "no answer"),
        ("drip", None, "no answer"),
        ("hang up", None, "no HTTP response: "),
        ("down", None, "Connection refused"),
    ],
)
def test_pings(world: World, mode: int | str, status: int | None, error: str) -> None:
    """They end in time, whatever the receiver does, and are made once."""
    world.allow(TIMEOUT)
    before = world.community.dump()
    if mode == "down":
        world.receiver.stop()
    else:
        world.receiver.mode = mode
    with Stopwatch() as watch:
        body = ask(world, "POST", TEST)
    assert body["status"] == status
    assert (body["error"] or "").startswith(error)
    assert (body["error"] is None) is (error == "")
    assert body["seconds"] - watch.waited < TIMEOUT + 0.3
    assert (body["seconds"] >= TIMEOUT) is (mode in {"hang", "drip"})
    assert world.community.dump() == before
    world.receiver.mode = 200
    if mode == "down":
        world.receiver.__enter__()
    world.account(10)
    world.move(10)
    assert world.command("deliver", "--all") == (0, "")
    pings = [headers for headers, body in world.receiver.attempts if "ping" in body]
    assert len(pings) == (mode != "down")


def test_a_ping_holds_nobody_up(world: World) -> None:
    """Its receiver may write and ping before it answers."""
    world.account(10)

    def write(_: Any) -> None:
        world.receiver.before_answer = lambda _: None
        world.move(10)
        assert ask(world, "POST", TEST)["status"] == 200

    world.receiver.before_answer = write
    assert ask(world, "POST", TEST)["status"] == 200
    assert ["ping" in body for _, body in world.receiver.attempts] == [True, False, True]
    assert world.waiting() == 0


def test_a_ping_leaves_what_waits(world: World) -> None:
    """A resting receiver is sent it all the same, and goes on resting."""
    world.account(10)
    world.receiver.stop()
    world.move(10)
    before = world.community.dump()
    world.receiver.__enter__()
    assert ask(world, "POST", TEST)["status"] == 200
    assert world.community.dump() == before


def test_nothing_waits(world: World) -> None:
    assert ask(world, "GET", DELIVERIES) == NOTHING
    world.account(10)
    world.move(10)
    assert ask(world, "GET", DELIVERIES) == NOTHING


def test_what_is_due(world: World) -> None:
    world.account(10), world.account(11)
    keep_waiting(world, 10, 11, 10)
    others = Caller(world.bot.client, world.community.bot(name="other"))
    body = {"url": f"{world.receiver.url}/", "secret": SECRET}
    assert others("PUT", UPDATE, body).status_code == 200
    assert answer(others("GET", DELIVERIES)) == (200, NOTHING)
    assert world.bot("PUT", "/callback/team_create", body).status_code == 200
    assert ask(world, "GET", "/callback/team_create/deliveries") == NOTHING
    stored = rows(world, Delivery)
    assert len(stored) == 3
    assert ask(world, "GET", DELIVERIES) == {
        "waiting": 3,
        "since": stored[0]["created_at"],
        "resting_until": None,
        "last_error": None,
        "deliveries": [
            {
                "id": row["webhook_id"],
                "created_at": row["created_at"],
                "attempts": 0,
                "retry_at": None,
                "last_error": None,
            }
            for row in stored
        ],
    }


def test_what_is_refused(world: World) -> None:
    world.account(10)
    world.receiver.mode = 500
    world.move(10), world.move(10)
    refused, behind = rows(world, Delivery)
    assert now() < refused["due_at"] <= now() + 5
    assert ask(world, "GET", DELIVERIES) == {
        "waiting": 2,
        "since": refused["created_at"],
        "resting_until": None,
        "last_error": None,
        "deliveries": [
            {
                "id": refused["webhook_id"],
                "created_at": refused["created_at"],
                "attempts": 1,
                "retry_at": refused["due_at"],
                "last_error": "answered with status 500",
            },
            {
                "id": behind["webhook_id"],
                "created_at": behind["created_at"],
                "attempts": 0,
                "retry_at": None,
                "last_error": None,
            },
        ],
    }
    world.pauses_end()
    assert ask(world, "GET", DELIVERIES)["deliveries"][0]["retry_at"] is None


def test_who_rests(world: World) -> None:
    world.account(10)
    world.receiver.stop()
    world.move(10)
    (row,), (callback,) = rows(world, Delivery), rows(world, Callback)
    assert now() < callback["resting_until"] <= now() + 5
    delivery = {
        "id": row["webhook_id"],
        "created_at": row["created_at"],
        "attempts": 0,
        "retry_at": None,
        "last_error": "Connection refused",
    }
    resting = {
        "waiting": 1,
        "since": row["created_at"],
        "resting_until": callback["resting_until"],
        "last_error": "Connection refused",
        "deliveries": [delivery],
    }
    assert ask(world, "GET", DELIVERIES) == resting
    world.pauses_end()
    assert ask(world, "GET", DELIVERIES) == resting | {"resting_until": None}


def test_more_than_a_hundred_wait(world: World) -> None:
    keys = list(range(10, 130))
    for key in keys:
        world.account(key)
    ids = keep_waiting(world, *keys)
    body = ask(world, "GET", DELIVERIES)
    assert body["waiting"] == 120
    assert body["since"] == rows(world, Delivery)[0]["created_at"]
    assert [delivery["id"] for delivery in body["deliveries"]] == ids[:100]
    world.set(Delivery, due_at=None, subject=10)  # all about one account
    with world.app.app_context(), transaction(write=True):
        db.session.execute(db.update(Delivery).where(Delivery.id == 1).values(due_at=0))
    body = ask(world, "GET", DELIVERIES)
    assert body["waiting"] == 120
    assert [delivery["id"] for delivery in body["deliveries"]] == ids[:100]


def pass_by(world: World, seconds: float) -> None:
    """Let time pass for waiting deliveries and resting receivers."""
    with world.app.app_context(), transaction(write=True):
        for column in (Callback.resting_until, Delivery.due_at):
            ahead = db.update(column.class_).where(column > 0)
            db.session.execute(ahead.values({column: column - seconds}))


@pytest.mark.parametrize("rests", [False, True])
def test_they_go_out_in_the_order_in_which_they_are_listed(world: World, rests: bool) -> None:
    """First those that are due, then those that pause, each with those behind it."""
    for key in (10, 11, 12, 13):
        world.account(key)
    world.receiver.mode = 500
    world.move(10)
    world.pauses_end()
    assert world.command("deliver")[0] == 1  # a pause of five minutes
    world.move(12)  # one of five seconds
    refused = [row["webhook_id"] for row in rows(world, Delivery)]
    more = keep_waiting(world, 11, 10, 12, 13, 11)
    if rests:
        world.set(Callback, resting_until=now() + 60, failures=2)
        due = [refused[1], more[0], more[2], more[3], more[4]]
        expected = [*due, refused[0], more[1]]
    else:
        expected = [more[0], more[3], more[4], refused[1], more[2], refused[0], more[1]]
    listed = [delivery["id"] for delivery in ask(world, "GET", DELIVERIES)["deliveries"]]
    assert listed == expected
    world.receiver.mode = 200
    world.receiver.attempts.clear()
    for seconds in (0, 6, 55, 300):
        pass_by(world, seconds)
        world.command("deliver")
    assert world.receiver.ids == listed
    assert ask(world, "GET", DELIVERIES) == NOTHING


def test_a_pause_of_a_clock_that_was_ahead_is_over(world: World) -> None:
    world.account(10)
    world.receiver.mode = 500
    world.move(10)
    world.set(Delivery, due_at=now() + 3 * DAY)
    world.set(Callback, resting_until=now() + 3 * DAY, failures=1)
    body = ask(world, "GET", DELIVERIES)
    assert body["resting_until"] is body["deliveries"][0]["retry_at"] is None


def test_deliver_ends_pauses_and_the_rest(world: World) -> None:
    for key in (10, 11, 12):
        world.account(key)
    assert ask(world, "POST", DELIVER) == {"delivered": 0, "waiting": 0}
    world.receiver.mode = 500
    world.move(10)
    world.receiver.stop()
    world.move(11), world.move(10)
    assert ask(world, "GET", DELIVERIES)["resting_until"]
    assert ask(world, "POST", DELIVER) == {"delivered": 0, "waiting": 3}
    world.receiver.__enter__()
    world.receiver.refuses = lambda body: body["account"]["id"] == "10"
    world.receiver.mode = 200
    assert ask(world, "POST", DELIVER) == {"delivered": 1, "waiting": 2}
    assert ask(world, "GET", DELIVERIES)["deliveries"][0]["attempts"] == 2
    world.receiver.refuses = lambda _: False
    assert ask(world, "POST", DELIVER) == {"delivered": 2, "waiting": 0}
    red, blue = world.teams
    assert world.heard() == [(11, red), (10, red), (10, blue)]
    world.move(12)
    assert world.heard()[3:] == [(12, red)]


def test_deliver_keeps_within_the_bounds_of_a_write(world: World) -> None:
    world.allow(TIMEOUT)
    keys = range(10, 30)
    for key in keys:
        world.account(key)
    keep_waiting(world, *keys)
    world.receiver.mode = "hang"
    with Stopwatch() as watch:
        assert ask(world, "POST", DELIVER) == {"delivered": 0, "waiting": 20}
    assert watch.seconds >= TIMEOUT
    assert watch.own_seconds < TIMEOUT + 0.3
    world.receiver.mode = 200
    world.receiver.before_answer = lambda _: time.sleep(TIMEOUT / 4)
    with Stopwatch() as watch:
        body = ask(world, "POST", DELIVER)
    assert watch.own_seconds < 2 * TIMEOUT + 0.3
    assert body == {"delivered": len(world.receiver.taken), "waiting": world.waiting()}
    assert 0 < body["delivered"] < 20
    assert body["delivered"] + body["waiting"] == 20


def test_deliver_sends_nothing_of_other_callbacks(world: World) -> None:
    world.account(10)
    with Receiver() as other:
        world.tell_too(other)
        here = {"url": f"{world.receiver.url}/", "secret": SECRET}
        assert world.bot("PUT", "/callback/team_update", here).status_code == 200
        ids = keep_waiting(world, 10)
        assert len(ids) == 2
        world.set(Callback, lease="elsewhere:1:x", leased_until=now() + 30)
        assert world.bot("PATCH", "/team/1", {"name": "Green"}).status_code == 200
        world.set(Callback, lease=None)
        assert ask(world, "POST", DELIVER) == {"delivered": 1, "waiting": 0}
        assert world.heard() == [(10, world.teams[0])]
        assert other.attempts == []
        assert [row["due_at"] for row in rows(world, Delivery)] == [0, 0]


def test_two_deliver_at_once(world: World) -> None:
    """Each leaves alone the deliveries that the other is sending."""
    keys = (10, 11, 12)
    for key in keys:
        world.account(key)
    ids = keep_waiting(world, *keys)
    second = []

    def deliver_too(_: Any) -> None:
        world.receiver.before_answer = lambda _: None
        second.append(ask(world, "POST", DELIVER))

    world.receiver.before_answer = deliver_too
    assert ask(world, "POST", DELIVER) == {"delivered": 3, "waiting": 0}
    assert second == [{"delivered": 0, "waiting": 3}]
    assert world.receiver.ids == ids


def test_each_delivery_names_its_event(world: World) -> None:
    for event in EventType:
        body = {"url": f"{world.receiver.url}/", "secret": SECRET}
        assert world.bot("PUT", f"/callback/{event}", body).status_code == 200
    account = {"id": 10, "name": "Ann", "discriminator": 0}
    award = {"title": "First", "image_url": "http://x/1.png", "team": 3, "accounts": [10]}
    for method, path, change in (
        ("POST", "/teams/new", {"name": "Green"}),
        ("POST", "/accounts/new", account),
        ("PATCH", "/account/10", {"team": 3, "name": "Bob"}),
        ("POST", "/awards/new", award),
        ("PATCH", "/award/1", {"title": "Second"}),
        ("DELETE", "/award/1", None),
        ("PATCH", "/team/3", {"name": "Yellow"}),
        ("DELETE", "/account/10", None),
        ("DELETE", "/team/3", None),
    ):
        assert world.bot(method, path, change).status_code < 300
    named = [(headers["laurels-event"], set(body)) for headers, body in world.receiver.attempts]
    assert {event for event, _ in named} == {event.value for event in EventType}
    for name, attributes in named:
        assert name.partition("_")[0] in attributes
        assert ("team" in attributes) is ("team" in name)
