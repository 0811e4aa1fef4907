"""Delivery: nothing is lost, the order is kept, and time is limited."""

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, event
from standardwebhooks import Webhook

from callbacks.clock import WallClock
from callbacks.delivery import PAUSES
from callbacks.signing import sign
from database import connection, db, transaction
from models import Account, Callback, Delivery, now
from permissions import APP_PERMISSIONS
from tests.support.community import Caller, Community
from tests.support.receiver import SECRET, Receiver
from tests.support.stopwatch import Stopwatch

TIMEOUT = 0.5
PATIENCE = 60
"""Seconds for a receiver that is well: a busy machine may be slow."""
UPDATE = "/callback/account_team_update"
HOUR, DAY = 3600, 86400


class World:
    """An app, a bot that may do everything, two teams and a receiver."""

    def __init__(self, app: Flask, receiver: Receiver) -> None:
        self.app, self.receiver = app, receiver
        self.community = Community(app)
        self.bot = Caller(app.test_client(), self.community.bot(APP_PERMISSIONS))
        self.teams = [self.community.team("Red"), self.community.team("Blue")]
        self.register()

    def register(self) -> None:
        body = {"url": f"{self.receiver.url}/", "secret": SECRET}
        assert self.bot("PUT", UPDATE, body).status_code == 200

    def account(self, key: int) -> int:
        return self.community.account(key)

    def move(self, key: int, team: int | None = None) -> float:
        """Move an account to another team; return how many seconds of its own it took."""
        with Stopwatch() as watch:
            present = self.bot("GET", f"/account/{key}").get_json()["team"]
            other = self.teams[1 if present and present["id"] == self.teams[0] else 0]
            body = {"team": other if team is None else team}
            response = self.bot("PATCH", f"/account/{key}", body)
        assert response.status_code == 200, response.text
        return watch.own_seconds

    def pauses_end(self) -> None:
        """Let the time pass until no pause holds anything back."""
        with self.app.app_context(), transaction(write=True):
            for column in (Callback.resting_until, Delivery.due_at):
                pausing = db.update(column.class_).where(column > now())
                db.session.execute(pausing.values({column: now() - 1}))

    def waiting(self) -> int:
        return len(self.community.dump()["deliveries"])

    def set(self, model: type[Callback | Delivery], **values: Any) -> None:
        """Put all callbacks, or all deliveries, into a state."""
        with self.app.app_context(), transaction(write=True):
            db.session.execute(db.update(model).values(values))

    def tell_too(self, receiver: Receiver) -> None:
        """Register another app's callbacks at a receiver of its own."""
        bot = Caller(self.bot.client, self.community.bot(name=receiver.url))
        body = {"url": f"{receiver.url}/", "secret": SECRET}
        assert bot("PUT", UPDATE, body).status_code == 200

    def command(self, *arguments: str) -> tuple[int, str]:
        result = self.app.test_cli_runner().invoke(args=["callbacks", *arguments])
        return result.exit_code, result.output

    def allow(self, seconds: float) -> None:
        """Give receivers so much time from now on."""
        settings, timeout = self.app.extensions["settings"], timedelta(seconds=seconds)
        self.app.extensions["settings"] = replace(settings, callback_timeout=timeout)

    def heard(self) -> list[tuple[int, int | None]]:
        """Return the accounts and teams that the receiver accepted, in its order."""
        return [
            (int(body["account"]["id"]), body["team"] and body["team"]["id"])
            for body in self.receiver.taken
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a receiver that listens."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def world(make_app: Callable[..., Flask], receiver: Receiver) -> World:
    """Return an app with a callback at that receiver."""
    return World(make_app(callback_timeout=timedelta(seconds=PATIENCE)), receiver)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    body = b'{"a": 1}'
    moment = datetime.now().astimezone()
    for secret, webhook in (
        ("plain secret", Webhook(b"plain secret")),
        ("whsec_c2VjcmV0", Webhook("whsec_c2VjcmV0")),
    ):
        assert sign(secret, "msg_1", int(moment.timestamp()), body) == webhook.sign(
            "msg_1", moment, body.decode()
        )


def test_delivered_before_the_answer(world: World) -> None:
    world.account(10)
    world.move(10)
    assert world.heard() == [(10, world.teams[0])]
    assert world.waiting() == 0
    headers, _ = world.receiver.attempts[0]
    assert set(headers) >= {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert "cookie" not in headers


def test_only_the_change_waits_for_the_disk(world: World) -> None:
    world.account(10)
    levels = []
    with world.app.app_context():
        sqlite = db.engine.dialect.name == "sqlite"
    setting = "PRAGMA synchronous" if sqlite else "SHOW synchronous_commit"

    def note(connection: Connection) -> None:
        if connection.get_execution_options().get("write"):
            levels.append(connection.exec_driver_sql(setting).scalar())

    with world.app.app_context():
        event.listen(db.engine, "commit", note)
    world.bot("PATCH", "/account/10", {"team": world.teams[0]})
    world.bot("PATCH", "/account/10", {"team": 0})
    full, normal = (2, 1) if sqlite else ("on", "off")
    assert levels == [full, normal, normal] * 2  # the change, the lease, the result


@pytest.mark.parametrize("mode", [500, 302, 404, 400, "hang", "drip", "hang up", "down"])
def test_it_waits_and_goes_out_later(world: World, mode: int | str) -> None:
    """With the same id and body, at the next write that has an event."""
    world.allow(TIMEOUT)
    world.account(10), world.account(11)
    if mode == "down":
        world.receiver.stop()
    else:
        world.receiver.mode = mode
    assert world.move(10) < 2 * TIMEOUT
    assert world.waiting() == 1
    assert world.receiver.paths == ([] if mode == "down" else ["/"])  # no redirect was followed
    world.receiver.mode = 200
    if mode == "down":
        world.receiver.__enter__()
    world.allow(PATIENCE)
    world.pauses_end()
    world.move(11)
    assert world.heard() == [(10, world.teams[0]), (11, world.teams[0])]
    assert world.waiting() == 0
    if mode != "down":
        (first, first_body), (second, second_body) = world.receiver.attempts[:2]
        assert first["webhook-id"] == second["webhook-id"]
        assert first_body == second_body


@pytest.mark.parametrize("mode", [500, "hang", "down"])
def test_the_command(world: World, mode: int | str) -> None:
    world.allow(TIMEOUT)
    world.account(10)
    if mode == "down":
        world.receiver.stop()
    else:
        world.receiver.mode = mode
    world.move(10)
    status, printed = world.command("deliver")
    assert status == 1
    assert "1 still waiting" in printed
    assert world.command("deliver", "--all")[0] == 1
    status, listed = world.command("list")
    reason = {500: "answered with status 500", "hang": "no answer", "down": "Connection refused"}
    assert (status, reason[mode] in listed) == (0, True), listed
    world.allow(PATIENCE)
    world.receiver.mode = 200
    if mode == "down":
        world.receiver.__enter__()
    assert world.command("deliver")[0] == 1  # it is still paused
    assert world.heard() == []
    assert world.command("deliver", "--all") == (0, "")
    assert world.heard() == [(10, world.teams[0])]
    assert world.command("deliver") == (0, "")


def test_pauses_grow(world: World) -> None:
    """A refused delivery pauses, an unreachable receiver rests: longer each time."""
    world.account(10)

    def pause() -> float:
        with world.app.app_context(), transaction(write=False):
            delivery = connection().execute(db.select(Delivery)).one()
            callback = connection().execute(db.select(Callback)).one()
            until = callback.resting_until if world.receiver.server is None else delivery.due_at
            assert until
            seconds: float = until - now()
            return seconds

    world.receiver.mode = 500
    world.move(10)
    expected = [5, 300, 1800, 7200, 18000, 36000, 36000]
    assert list(PAUSES) == expected[:-1]
    for seconds in expected:
        assert seconds - 3 < pause() <= seconds
        world.pauses_end()
        world.command("deliver")
    world.receiver.stop()
    world.command("deliver", "--all")
    for seconds in expected:
        assert seconds - 3 < pause() <= seconds
        world.command("deliver", "--all")


def test_a_refusal_is_not_an_outage(world: World) -> None:
    """Other deliveries go out at once; those about the same account wait, and keep their order."""
    red, blue = world.teams
    for key in (10, 11):
        world.account(key)
    world.receiver.refuses = lambda body: body["account"]["id"] == "10"
    for team in (red, blue, 0):
        world.move(10, team)
        world.move(11, team)
    assert world.heard() == [(11, red), (11, blue), (11, None)]
    assert [body["account"]["id"] for _, body in world.receiver.attempts].count("10") == 1
    world.receiver.refuses = lambda _: False
    world.pauses_end()
    world.account(12)
    world.move(12, red)
    assert world.heard()[3:] == [(10, red), (10, blue), (10, None), (12, red)]


def test_hanging_up_is_a_refusal(world: World) -> None:
    """A bot may do so at an unexpected event; it is told about all others, without a rest."""
    red = world.teams[0]
    for key in (10, 11):
        world.account(key)
    world.receiver.mode = "hang up"
    world.move(10, red)
    assert "no HTTP response" in world.command("list")[1]
    world.receiver.mode = 200
    world.move(11, red)
    assert world.heard() == [(11, red)]
    assert world.waiting() == 1
    world.pauses_end()
    assert world.command("deliver") == (0, "")
    assert world.heard() == [(11, red), (10, red)]


def test_a_receiver_that_hangs_costs_one_write_at_most_the_timeout(world: World) -> None:
    world.allow(TIMEOUT)
    for key in range(10, 111):
        world.account(key)
    world.receiver.mode = "hang"
    with Stopwatch() as watch:
        assert world.move(10) < TIMEOUT + 0.3
    assert watch.seconds >= TIMEOUT
    with_hanging = [world.move(key) for key in range(11, 61)]
    assert len(world.receiver.attempts) == 1
    assert world.bot("DELETE", UPDATE).status_code == 204
    without = [world.move(key) for key in range(61, 111)]
    assert sorted(with_hanging)[25] < 3 * sorted(without)[25] + 0.005
    assert max(with_hanging) < TIMEOUT


def test_many_deliveries_of_one_write(world: World) -> None:
    """In order, within twice the timeout, and nothing twice."""
    world.allow(TIMEOUT)
    with world.app.app_context(), transaction(write=True):
        db.session.add_all(
            Account(id=key, name="x", discriminator="0", team_id=world.teams[0])
            for key in range(1, 501)
        )
    with Stopwatch() as watch:
        assert world.bot("DELETE", f"/team/{world.teams[0]}").status_code == 204
    assert watch.own_seconds < 2 * TIMEOUT + 1
    first = len(world.receiver.taken)
    assert 0 < first < 500
    world.allow(PATIENCE)
    assert world.command("deliver") == (0, "")
    assert world.heard() == [(key, None) for key in range(1, 501)]
    assert len(set(world.receiver.ids)) == 500


def test_two_receivers_share_the_time(world: World) -> None:
    """One write's deliveries, to all receivers, take at most twice the timeout."""
    world.allow(TIMEOUT)
    receivers = []
    for number in range(4):
        receiver = Receiver().__enter__()
        receiver.mode = "hang"
        receivers.append(receiver)
        bot = Caller(world.bot.client, world.community.bot(name=f"bot {number}"))
        assert bot("PUT", UPDATE, {"url": f"{receiver.url}/", "secret": SECRET}).status_code == 200
    world.receiver.mode = "hang"
    world.account(10)
    assert world.move(10) < 2 * TIMEOUT + 0.3
    for receiver in receivers:
        receiver.stop()


def test_a_slow_receiver_does_not_hold_up_a_quick_one(world: World) -> None:
    """Each event reaches the quick one at once, however much waits for the slow one."""
    world.allow(TIMEOUT)
    for key in range(10, 43):
        world.account(key)
    world.receiver.mode = 500
    for key in range(10, 37):
        world.move(key)
    world.pauses_end()
    world.receiver.mode = 200
    world.receiver.before_answer = lambda _: time.sleep(TIMEOUT / 3)
    with Receiver() as quick:
        world.tell_too(quick)
        for key in range(37, 43):
            assert world.move(key) < 2 * TIMEOUT
            assert quick.taken[-1]["account"]["id"] == str(key)
    assert [key for key, _ in world.heard()] == list(range(10, 10 + len(world.heard())))


def test_receivers_take_turns_a_delivery_each(world: World) -> None:
    with Receiver() as second:
        world.tell_too(second)
        told: list[str] = []
        world.receiver.mode = second.mode = 500
        for key in (10, 11, 12):
            world.account(key)
            world.move(key)
        world.receiver.mode = second.mode = 200
        world.receiver.before_answer = lambda _: told.append("first")
        second.before_answer = lambda _: told.append("second")
        assert world.command("deliver", "--all") == (0, "")
        assert told == ["first", "second"] * 3


def test_registering_again(world: World) -> None:
    """The id and the queue are kept; that is due at once, at the new URL, but not sent by this."""
    world.account(10), world.account(11), world.account(12)
    world.receiver.mode = 500
    world.move(10)
    world.receiver.stop()
    world.move(11)
    before = world.bot("GET", UPDATE).get_json()["id"]
    with Receiver() as other:
        world.receiver = other
        world.register()
        assert world.bot("GET", UPDATE).get_json() == {
            "id": before,
            "event": "account_team_update",
            "url": f"{other.url}/",
        }
        assert other.attempts == []
        assert world.waiting() == 2
        world.move(12)
        assert [key for key, _ in world.heard()] == [10, 11, 12]
    assert "refused" not in world.command("list")[1]  # as it was by the old receiver


def test_registering_again_while_the_old_receiver_is_waited_for(world: World) -> None:
    """The old one's failure is not held against the new one."""
    world.allow(TIMEOUT)
    world.account(10), world.account(11)
    with Receiver() as other:
        old = world.receiver
        world.receiver = other
        old.mode = "hang"
        old.before_answer = lambda _: world.register()
        world.move(10)
        assert world.waiting() == 1
        world.move(11)
        assert [key for key, _ in world.heard()] == [10, 11]


def test_deleting_a_callback_or_an_app_drops_what_waits(world: World) -> None:
    world.account(10)
    world.receiver.stop()
    world.move(10)
    assert world.waiting() == 1
    world.bot("DELETE", UPDATE)
    assert world.waiting() == 0
    world.register()
    world.move(10)
    assert world.waiting() == 1
    assert world.app.test_cli_runner().invoke(args=["apps", "delete", "bot"]).exit_code == 0
    assert world.waiting() == 0


def _delete(world: World) -> None:
    assert world.bot("DELETE", UPDATE).status_code == 204


def test_deleting_while_it_is_sent(world: World) -> None:
    world.account(10)
    world.receiver.before_answer = lambda _: _delete(world)
    world.move(10)
    assert world.waiting() == 0


def test_nothing_personal_is_left(world: World) -> None:
    """Once an account is deleted and its deliveries are made, no trace of its name is left."""
    here = {"url": f"{world.receiver.url}/", "secret": SECRET}
    world.bot("PUT", "/callback/account_delete", here)
    world.community.account(10, name="Ann Personal", avatar_url="https://personal.example/x")
    world.receiver.mode = 500
    world.move(10)
    world.bot("DELETE", "/account/10")
    assert "ersonal" in str(world.community.dump())
    world.receiver.mode = 200
    assert world.command("deliver", "--all")[0] == 0
    assert "ersonal" not in str(world.community.dump())
    assert [event[1] for event in world.community.dump()["events"]] == [
        "callback_register",
        "callback_register",
        "account_team_update",
        "account_delete",
    ]


def test_bodies_tell_the_state_right_after_the_change(world: World) -> None:
    world.community.account(10, name="Before")
    world.receiver.stop()
    world.move(10, world.teams[0])
    world.bot("PATCH", "/account/10", {"name": "After"})
    world.receiver.__enter__()
    assert world.command("deliver", "--all")[0] == 0
    assert world.receiver.taken[0]["account"]["name"] == "Before"


def test_the_host_s_proxies_and_netrc_are_not_used(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login x password y\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    world.account(10)
    world.move(10)  # the receiver checks the Authorization header
    assert world.heard() == [(10, world.teams[0])]


def test_a_url_with_a_password_does_not_replace_the_secret(world: World) -> None:
    url = world.receiver.url.replace("//", "//user:password@") + "/"
    assert world.bot("PUT", UPDATE, {"url": url, "secret": SECRET}).status_code == 200
    world.account(10)
    world.move(10)  # the receiver checks the Authorization header
    assert world.heard() == [(10, world.teams[0])]


def place() -> str:
    return f"{socket.gethostname()}:{Path('/proc/self/ns/pid').readlink()}"


def test_a_lease_of_a_dead_process_does_not_hold(world: World) -> None:
    world.account(10), world.account(11)
    no_process = 2**22 + 1
    for lease in (
        f"{place()}:1:x",
        f"elsewhere:{no_process}:x",
        f"{socket.gethostname()}:pid:[1]:{no_process}:x",  # another container has other processes
    ):
        world.set(Callback, lease=lease, leased_until=now() + 30)
        world.move(10)
        assert world.heard() == []
    for lease in (f"{place()}:{no_process}:x", f"{place()}:{os.getpid()}:x"):
        world.set(Callback, lease=lease)
        world.move(11)
        assert world.waiting() == 0
    assert [key for key, _ in world.heard()] == [10, 10, 10, 11, 11]


def _connect(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(database, isolation_level=None, check_same_thread=False)


def _lock(other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")


@pytest.mark.sqlite
def test_a_result_that_cannot_be_stored(world: World, database: Path) -> None:
    """The write is answered within its bound, and the lease holds nobody up afterwards."""
    world.allow(TIMEOUT)
    world.account(10), world.account(11)
    with closing(_connect(database)) as other:
        world.receiver.before_answer = lambda _: _lock(other)
        assert world.move(10) < 2 * TIMEOUT
        world.receiver.before_answer = lambda _: None
        other.execute("ROLLBACK")
    assert world.waiting() == 1
    world.move(11)
    assert [key for key, _ in world.heard()] == [10, 10, 11]
    assert world.receiver.ids[0] == world.receiver.ids[1]
    assert world.waiting() == 0


@pytest.mark.parametrize("late", [200, "hang"])
def test_a_result_that_comes_too_late(world: World, late: int | str) -> None:
    """It undoes nothing that the next holder of the lease has stored since."""
    world.allow(TIMEOUT)
    red, blue = world.teams
    world.account(10)
    world.receiver.mode = 500
    world.move(10, red)
    world.move(10, blue)
    world.receiver.mode = 200
    world.receiver.refuses = lambda body: body["team"]["id"] == blue

    def overtake(_: Any) -> None:
        world.receiver.before_answer = lambda _: None
        world.set(Callback, lease=None)
        assert world.command("deliver")[0] == 1
        world.receiver.mode = late

    world.receiver.before_answer = overtake
    assert world.command("deliver", "--all")[0] == 1
    assert world.heard() == [(10, red)] * (2 if late == 200 else 1)
    assert len(world.receiver.attempts) == 4  # the refused one is paused
    listed = world.command("list")[1]
    assert "answered with status 500" in listed
    assert "no answer" not in listed


def test_the_secret_is_nowhere_in_logs(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.account(10)
    caplog.set_level("DEBUG")
    world.receiver.mode = 500
    world.move(10)
    assert "answered with status 500" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in world.command("list")[1]


def test_what_is_behind_a_forgotten_one_goes_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    red, blue = world.teams
    world.account(10), world.account(11)
    world.receiver.mode = 500
    world.move(10, red)
    world.set(Delivery, created_at=now() - 4 * DAY)
    monkeypatch.setattr("callbacks.clock.GRACE", HOUR)  # so that this does not delete the first
    world.move(10, blue)
    monkeypatch.setattr("callbacks.clock.GRACE", 0)
    world.receiver.mode = 200
    world.move(11, red)
    assert world.heard() == [(10, blue), (11, red)]
    assert world.waiting() == 0


class Clocks:
    """The wall clock and the monotonic one, both of which the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.monotonic = time.time, time.monotonic
        self.passed, self.jumped = 0.0, 0.0
        monkeypatch.setattr(time, "time", lambda: self.wall() + self.passed + self.jumped)
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic() + self.passed)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Return the clocks of a process that has just started."""
    clocks = Clocks(monkeypatch)
    monkeypatch.setattr("callbacks.events.wall_clock", WallClock())
    return clocks


def test_who_was_told_longest_ago_has_the_next_turn(world: World, clocks: Clocks) -> None:
    """Even if each of several receivers takes all the time of a write."""
    world.allow(TIMEOUT)

    def take_all_the_time(_: object) -> None:
        clocks.passed += TIMEOUT

    keys = range(10, 16)
    for key in keys:
        world.account(key)
    with Receiver() as second, Receiver() as third:
        receivers = [world.receiver, second, third]
        world.tell_too(second)
        world.tell_too(third)
        for receiver in receivers:
            receiver.before_answer = take_all_the_time
        for key in keys:
            world.move(key)
        assert [len(receiver.taken) for receiver in receivers] == [2, 2, 2]


def test_a_clock_that_jumps_deletes_nothing(world: World, clocks: Clocks) -> None:
    """Deliveries are dropped only once the clock has run evenly for an hour."""
    world.account(10)
    world.receiver.stop()

    def waiting_after(hours: float) -> int:
        clocks.passed += hours * HOUR
        world.move(10)
        return world.waiting()

    assert [waiting_after(hours) for hours in (0, 2)] == [1, 2]
    clocks.jumped = 3 * DAY
    assert [waiting_after(hours) for hours in (0, 0.9)] == [3, 4]
    clocks.jumped = 0
    assert [waiting_after(hours) for hours in (0, 2)] == [5, 6]
    assert [waiting_after(hours) for hours in (71, 100, 0)] == [4, 1, 2]


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize("seconds", [3 * DAY, 12 * HOUR])
def test_a_clock_that_was_ahead_makes_nobody_wait(
    world: World, clocks: Clocks, refused: bool, seconds: int
) -> None:
    """A pause or a lease that ends later than is possible is over."""
    world.account(10), world.account(11)
    if refused:
        world.receiver.mode = 500
    else:
        world.receiver.stop()
    clocks.jumped = seconds
    world.move(10)
    world.set(Callback, lease="elsewhere:1:x", leased_until=now() + 30)
    clocks.jumped = 0
    world.receiver.mode = 200
    if not refused:
        world.receiver.__enter__()
    world.move(11)
    assert [key for key, _ in world.heard()] == [10, 11]


def test_order_by_subject_of_many(world: World) -> None:
    """Whatever is refused, each account's deliveries are in the order of the events."""
    for key in range(10, 15):
        world.account(key)
    world.receiver.refuses = lambda _: len(world.receiver.attempts) % 3 == 0
    for turn in range(6):
        for key in range(10, 15):
            world.move(key, world.teams[turn % 2])
    world.receiver.refuses = lambda _: False
    assert world.command("deliver", "--all") == (0, "")
    for key in range(10, 15):
        teams = [team for account, team in world.heard() if account == key]
        assert len(teams) == 6
        assert all(one != other for one, other in pairwise(teams))
