"""A community to test with: it puts records into the database, and signs in as anybody."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from database import connection, db, transaction
from models import Account, App, Award, Awardee, Session, Team, now
from permissions import Permission

Auth = tuple[str, str]
NOBODY = Permission(0)


@dataclass
class Community:
    """The database of one test, written to directly."""

    app: Flask

    def _add(self, record: Any) -> Any:
        with self.app.app_context(), transaction(write=True):
            db.session.add(record)
            db.session.flush()
            return getattr(record, "id", None)

    def bot(self, permissions: Permission = NOBODY, name: str = "bot") -> Auth:
        """Make an app; return its credentials."""
        app = App(name=name, permissions=int(permissions))
        token = app.renew_token()
        return f"A{self._add(app)}", token

    def team(self, name: str = "Red", **fields: Any) -> int:
        """Make a team; return its id."""
        team_id: int = self._add(Team(name=name, **fields))
        return team_id

    def account(
        self,
        account_id: int,
        team: int | None = None,
        permissions: Permission = NOBODY,
        **fields: Any,
    ) -> int:
        """Make an account; return its id."""
        fields = {"name": f"user {account_id}", "discriminator": "0001"} | fields
        self._add(Account(id=account_id, team_id=team, permissions=int(permissions), **fields))
        return account_id

    def award(self, team: int | None = None, *accounts: int, **fields: Any) -> int:
        """Make an award and give it to accounts; return its id."""
        fields = {"title": "First", "image_url": "https://example.com/1.png"} | fields
        award_id: int = self._add(Award(team_id=team, **fields))
        for account_id in accounts:
            self._add(Awardee(account_id=account_id, award_id=award_id))
        return award_id

    def session(self, account_id: int, expires_at: float | None = None) -> Auth:
        """Sign an account in; return its credentials."""
        session = Session(account_id=account_id, expires_at=expires_at or now() + 86400)
        token = session.renew_token()
        return f"S{self._add(session)}", token

    def user(
        self, account_id: int, permissions: Permission = NOBODY, team: int | None = None
    ) -> Auth:
        """Make an account and sign it in; return its credentials."""
        return self.session(self.account(account_id, team, permissions))

    def set(self, account_id: int, **fields: Any) -> None:
        """Put an account into a state."""
        with self.app.app_context(), transaction(write=True):
            account = db.session.get_one(Account, account_id)
            for name, value in fields.items():
                setattr(account, name, value)

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return everything that is in the database."""
        with self.app.app_context(), transaction(write=False):
            return {
                table.name: [tuple(row) for row in connection().execute(table.select())]
                for table in db.metadata.sorted_tables
            }


def answer(response: TestResponse) -> tuple[int, Any]:
    """Return the status and the body of a response."""
    return response.status_code, response.get_json() if response.data else None


def issue(loc: str, kind: str) -> tuple[str, str]:
    """Name an issue by its place and kind, as `issues` does."""
    return loc, kind


def issues(response: TestResponse) -> list[tuple[str, str]]:
    """Return the places and kinds of the issues of a 422, and check their shape."""
    assert response.status_code == 422, response.text
    assert response.content_type == "application/json"
    body = response.get_json()
    assert set(body) == {"detail"}
    for one in body["detail"]:
        assert set(one) == {"loc", "msg", "type"}
        assert all(isinstance(part, str) for part in one["loc"])
        assert one["msg"]
    return sorted((" ".join(one["loc"]), one["type"]) for one in body["detail"])


def refusal(response: TestResponse) -> int:
    """Return the status of an error that is not a 422, and check its shape."""
    assert response.status_code not in {200, 201, 204, 422}, response.text
    assert response.content_type == "application/json"
    body = response.get_json()
    assert list(body) == ["detail"]
    assert isinstance(body["detail"], str)
    assert body["detail"]
    return response.status_code


class Caller:
    """A client that always uses the same credentials."""

    def __init__(self, client: FlaskClient, auth: Auth | None) -> None:
        self.client, self.auth = client, auth

    def __call__(self, method: str, path: str, body: Any = None) -> TestResponse:
        """Make a request, with a JSON body unless that is None."""
        options = {} if body is None else {"json": body}
        return self.client.open(path, method=method, auth=self.auth, **options)


As = Callable[[Auth | None], Caller]
"""The fixture `as_`: clients with credentials."""


def http_basic(auth: Auth) -> str:
    """Make an Authorization header."""
    return "Basic " + base64.b64encode(":".join(auth).encode()).decode()
