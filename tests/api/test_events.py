"""Every event: exactly when the specification says, with its whole body."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Self

import pytest
from flask import Flask

from database import db, transaction
from models import Delivery, Event, EventType, now
from permissions import APP_PERMISSIONS, Permission
from tests.support.community import As, Caller, Community
from tests.support.description import Description
from tests.support.receiver import SECRET, Receiver

NEW = {"name": "Ann", "discriminator": 1}


class Listener:
    """An app that may do everything and is told about every event, each at a receiver of its own.

    Every delivery is checked against the API's description.
    """

    def __init__(self, bot: Caller, description: Description) -> None:
        self.bot, self.description = bot, description
        self.receivers = {event.value: Receiver() for event in EventType}

    def __enter__(self) -> Self:
        for event, receiver in self.receivers.items():
            receiver.__enter__()
            body = {"url": f"{receiver.url}/", "secret": SECRET}
            assert self.bot("PUT", f"/callback/{event}", body).status_code == 200
        return self

    def __exit__(self, *_: object) -> None:
        for receiver in self.receivers.values():
            receiver.stop()

    def did(self, method: str, path: str, body: Any = None) -> Any:
        """Do something that succeeds; return the answer."""
        response = self.bot(method, path, body)
        assert response.status_code < 300, response.text
        return response.get_json() if response.data else None

    def heard(self) -> dict[str, list[Any]]:
        """Return the deliveries since the last call."""
        told = {event: receiver.taken[:] for event, receiver in self.receivers.items()}
        for event, receiver in self.receivers.items():
            for body in receiver.taken:
                self.description.check_delivery(event, body)
            receiver.taken.clear()
        return {event: bodies for event, bodies in told.items() if bodies}


def test_the_order_of_one_request(community: Community, as_: As) -> None:
    """Creation comes before giving, and taking before deletion."""
    bot = as_(community.bot(APP_PERMISSIONS))
    last = 0

    def told(method: str, path: str, body: Any = None) -> list[str]:
        nonlocal last
        assert bot(method, path, body).status_code < 300
        answer = bot("GET", f"/events?after={last}&per_page=1000").get_json()
        last = answer["last"]
        return [event["type"] for event in answer["events"]]

    red = community.team("Red")
    for key in range(1, 501):
        owns = Permission.MANAGE_OWN_TEAM if key in {7, 70, 500} else Permission(0)
        community.account(key, red, owns)
    award = {"title": "T", "image_url": "http://x", "team": red, "accounts": [1, 2]}
    assert told("POST", "/awards/new", award) == ["award_create", *2 * ["award_give"]]
    assert told("DELETE", "/award/1") == [*2 * ["award_take"], "award_delete"]
    new = NEW | {"id": 1000, "team": red, "permissions": 32}
    assert told("POST", "/accounts/new", new) == ["account_create", "account_team_update"]
    change = {"team": 0, "name": "Anna"}
    assert told("PATCH", "/account/1000", change) == ["account_team_update", "account_update"]
    assert told("POST", "/awards/new", award) == ["award_create", *2 * ["award_give"]]
    assert told("DELETE", "/account/1000") == ["account_delete"]
    assert told("DELETE", f"/team/{red}") == [
        "team_delete",
        *500 * ["account_team_update"],
        *3 * ["account_update"],
        "award_update",
    ]


def test_the_order_at_one_receiver(community: Community, as_: As) -> None:
    """One that is registered for all types gets events in the order of the log."""
    bot = as_(community.bot(APP_PERMISSIONS))
    red = community.team("Red")
    for key in (1, 2, 3):
        community.account(key, red, Permission.MANAGE_OWN_TEAM)
    award = {"title": "T", "image_url": "http://x", "team": red, "accounts": [1, 2, 3]}
    with Receiver() as receiver:
        for event in reversed(EventType):
            there = {"url": f"{receiver.url}/{event}", "secret": SECRET}
            assert bot("PUT", f"/callback/{event}", there).status_code == 200
        last = bot("GET", "/events").get_json()["last"]
        for method, path, body in (
            ("POST", "/awards/new", award),
            ("DELETE", "/award/1", None),
            ("PATCH", "/account/1", {"team": 0, "name": "Ann"}),
            ("POST", "/accounts/new", NEW | {"id": 4, "team": red, "permissions": 32}),
            ("POST", "/awards/new", award),
            ("DELETE", f"/team/{red}", None),
        ):
            assert bot(method, path, body).status_code < 300
    events = bot("GET", f"/events?after={last}&per_page=1000").get_json()["events"]
    assert len(events) == 24
    told = [headers["laurels-event"] for headers, _ in receiver.attempts]
    assert told == [event["type"] for event in events]


@pytest.fixture
def listener(community: Community, as_: As, description: Description) -> Iterator[Listener]:
    """Return an app that hears everything."""
    with Listener(as_(community.bot(APP_PERMISSIONS)), description) as listener:
        yield listener


def test_accounts(listener: Listener) -> None:
    red = listener.did("POST", "/teams/new", {"name": "Red"})
    assert listener.heard() == {"team_create": [{"team": red}]}
    ann = listener.did("POST", "/accounts/new", NEW | {"id": 10})
    assert listener.heard() == {"account_create": [{"account": ann}]}
    bob = listener.did("POST", "/accounts/new", NEW | {"id": 11, "team": red["id"]})
    assert listener.heard() == {
        "account_create": [{"account": bob}],
        "account_team_update": [{"account": bob, "team": bob["team"]}],
    }
    changes = {"name": "Anna", "team": red["id"], "grant_permissions": 1}
    ann = listener.did("PATCH", "/account/10", changes)
    assert listener.heard() == {
        "account_team_update": [{"account": ann, "team": ann["team"]}],
        "account_update": [{"account": ann, "changed": ["name", "permissions"]}],
    }
    assert ann["team"]["member_count"] == 2
    listener.did("PATCH", "/account/10", {"team": red["id"], "name": "Anna"})
    listener.did("PATCH", "/account/10", {"grant_permissions": 1, "revoke_permissions": 2})
    assert listener.heard() == {}
    picture = "https://x/1.png"
    ann = listener.did("PATCH", "/account/10", {"discriminator": 2, "avatar_url": picture})
    changed = ["discriminator", "avatar_url"]
    assert listener.heard() == {"account_update": [{"account": ann, "changed": changed}]}
    ann = listener.did("PATCH", "/account/10", {"team": 0})
    assert listener.heard() == {"account_team_update": [{"account": ann, "team": None}]}
    listener.did("PATCH", "/account/10", {"team": 0})
    assert listener.heard() == {}
    bob = listener.did("GET", "/account/11")
    listener.did("DELETE", "/account/11")
    assert listener.heard() == {"account_delete": [{"account": bob}]}


def test_teams(listener: Listener, community: Community) -> None:
    red = community.team("Red")
    listener.did("PATCH", f"/team/{red}", {"name": "Red"})
    assert listener.heard() == {}
    shown = listener.did("PATCH", f"/team/{red}", {"name": "Rouge"})
    assert listener.heard() == {"team_update": [{"team": shown}]}
    community.account(10, red, Permission.MANAGE_OWN_TEAM)
    community.account(9, red)
    community.award(red, 10)
    shown = listener.did("GET", f"/team/{red}")
    listener.did("DELETE", f"/team/{red}")
    bodies = [{"account": listener.did("GET", f"/account/{key}"), "team": None} for key in (9, 10)]
    assert listener.heard() == {
        "team_delete": [{"team": shown}],
        "account_team_update": bodies,
        "account_update": [{"account": bodies[1]["account"], "changed": ["permissions"]}],
        "award_update": [{"award": shown["awards"][0], "changed": ["team"]}],
    }
    assert bodies[1]["account"]["permissions"] == 0


def test_awards(listener: Listener, community: Community) -> None:
    red = community.team("Red")
    community.account(10, red)
    community.account(11)
    body = {"title": "First", "image_url": "http://x", "team": red, "accounts": [11, "10", 11]}
    award = listener.did("POST", "/awards/new", body)
    ann, bob = (listener.did("GET", f"/account/{key}") for key in (10, 11))
    assert listener.heard() == {
        "award_create": [{"award": award}],
        "award_give": [{"award": award, "account": ann}, {"award": award, "account": bob}],
    }
    assert ann["awards"] == bob["awards"] == [award]
    award = listener.did("PATCH", f"/award/{award['id']}", {"title": "Best", "points": 3})
    changed = ["title", "points"]
    assert listener.heard() == {"award_update": [{"award": award, "changed": changed}]}
    blue, url = community.team("Blue"), "http://y"
    award = listener.did("PATCH", f"/award/{award['id']}", {"team": blue, "image_url": url})
    changed = ["image_url", "team"]
    assert listener.heard() == {"award_update": [{"award": award, "changed": changed}]}
    listener.did("PATCH", f"/award/{award['id']}", {"title": "Best", "team": blue})
    listener.did("PUT", f"/account/10/award/{award['id']}", {})
    assert listener.heard() == {}
    assert award == {"id": award["id"], "title": "Best", "image_url": url}
    listener.did("DELETE", f"/account/10/award/{award['id']}")
    ann = listener.did("GET", "/account/10")
    assert listener.heard() == {"award_take": [{"award": award, "account": ann}]}
    assert ann["awards"] == []
    listener.did("PUT", f"/account/10/award/{award['id']}", {})
    ann = listener.did("GET", "/account/10")
    assert listener.heard() == {"award_give": [{"award": award, "account": ann}]}
    listener.did("DELETE", f"/award/{award['id']}")
    ann, bob = (listener.did("GET", f"/account/{key}") for key in (10, 11))
    assert listener.heard() == {
        "award_take": [{"award": award, "account": ann}, {"award": award, "account": bob}],
        "award_delete": [{"award": award}],
    }
    assert bob["awards"] == []


def test_refused_requests_are_no_events(listener: Listener, community: Community, as_: As) -> None:
    community.account(10)
    award = community.award(None)
    nobody = as_(None)
    for method, path, body in (
        ("POST", "/teams/new", {"name": "Red"}),
        ("DELETE", "/account/10", None),
        ("PUT", f"/account/10/award/{award}", None),
        ("PATCH", "/account/10", {"team": 1}),
    ):
        assert nobody(method, path, body).status_code == 401
    assert listener.bot("POST", "/teams/new", {"name": ""}).status_code == 422
    assert listener.bot("POST", "/accounts/new", NEW | {"id": 10}).status_code == 409
    assert listener.bot("DELETE", f"/account/10/award/{award}").status_code == 404
    assert listener.heard() == {}
    told = {event[1] for event in community.dump()["events"]}
    assert told == {"callback_register"}


def test_old_events_and_deliveries_are_forgotten(
    make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.clock.GRACE", 0)
    app = make_app(event_retention=timedelta(days=2), callback_retention=timedelta(days=1))
    community = Community(app)
    bot = Caller(app.test_client(), community.bot(APP_PERMISSIONS))
    bot("PUT", "/callback/team_create", {"url": "http://127.0.0.1:1/", "secret": SECRET})
    bot("POST", "/teams/new", {"name": "Red"})
    for age, events, deliveries in ((1, 3, 1), (2, 1, 1)):
        with app.app_context(), transaction(write=True):
            db.session.execute(db.update(Event).values(created_at=now() - 86400 * age))
            old = now() - 86400 * age
            db.session.execute(db.update(Delivery).values(created_at=old))
        bot("POST", "/teams/new", {"name": "Blue"})
        after = community.dump()
        assert (len(after["events"]), len(after["deliveries"])) == (events, deliveries)
