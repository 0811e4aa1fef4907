"""The life of a request.

A route declares what an endpoint takes, returns and needs. That is enforced here and documented by
`openapi.py`. A view gets the ids in the path, and the query or the body as a dict; the records that
they name exist, and the caller may do this to them.

1. Credentials, and permissions that depend on the caller alone, are checked before a body is read.
2. Path, query and body become checked values, or issues.
3. Discord is asked, with no transaction open.
4. A write runs in one transaction, in which its caller is checked again and the records that it
   names are looked up. The view of a read is one statement, and so one snapshot of the database.
5. If the write had events, the deliveries that are due are sent.
6. The response is the committed state, or the return value of the endpoint's `then`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any, TypeVar

import flask
import marshmallow as ma
from flask import Response
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from api.errors import Invalid, Issues, issue
from api.parsing import Parsed, parse
from api.references import missing, target
from authentication import authenticate, has_credentials, principal, unauthorized
from callbacks.delivery import deliver_after_write
from callbacks.events import recorded_some
from database import transaction
from fields import Message
from integrations.discord import BAD_TOKEN, BadTokenError, identify
from permissions import Action, Target, depends_on_target, may, may_ever, needs
from schemas import PATH

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint, as its route declares it.

    `returns` holds the schemas of its responses by status; the first status is used unless the view
    returns one. `needs` is None if anybody may call it. `discord` names the field of the body that
    may hold a Discord token: the view gets its user as `discord_user`, and a body with nothing else
    needs no credentials. `then` is a write's work outside, done after the commit with no
    transaction open: it takes the view's return value and returns the response. `errors` documents
    errors of its own. A `deprecated` endpoint is another path of the same view.
    """

    method: str
    rule: str
    view: Callable[..., Any]
    returns: Mapping[int, Any]
    query: type[ma.Schema] | None = None
    body: type[ma.Schema] | None = None
    needs: Action | None = None
    discord: str = ""
    then: Callable[[Any], Any] | None = None
    errors: Mapping[int, str] = field(default_factory=dict)
    deprecated: bool = False

    def __post_init__(self) -> None:
        """Raise `TypeError` if the view does not fit its route."""
        given = [*self.path_fields, *(name for name in ("query", "body") if getattr(self, name))]
        given += ["discord_user"] if self.discord else []
        try:
            signature(self.view).bind(**dict.fromkeys(given))
        except TypeError as error:
            raise TypeError(f"{self.view.__name__} is given {given}: {error}") from None
        if self.needs is not None and not needs(self.needs):
            raise TypeError(f"{self.needs} has no rule")

    @cached_property
    def path_fields(self) -> dict[str, ma.fields.Field[Any]]:
        """The fields of the parameters in the path."""
        return {name: PATH[name] for name in re.findall(r"<(\w+)>", self.rule)}

    @cached_property
    def _query(self) -> ma.Schema | None:
        return self.query() if self.query else None

    @cached_property
    def _body(self) -> ma.Schema | None:
        return self.body() if self.body else None

    def __call__(self, **path: str) -> Response:
        """Answer a request."""
        if self.method == "GET":
            return self._answer(self._read(path))
        result = self._write(path)
        if recorded_some():
            deliver_after_write()
        return self._answer(self.then(result) if self.then else result)

    def _read(self, path: dict[str, str]) -> Any:
        if self.needs is not None:
            self._admit()
        parsed = self._parse(path)
        result = None if parsed.issues else self.view(**self._arguments(parsed))
        if result is not None:
            return result
        absent = self._missing(parsed)
        if parsed.issues or absent:
            raise Invalid(parsed.issues, absent)
        raise unauthorized()  # the caller has been deleted since

    def _write(self, path: dict[str, str]) -> Any:
        judged = self.needs is not None and (has_credentials() or not self.discord)
        if judged:
            self._admit()
        parsed = self._parse(path)
        if not judged and self.needs and parsed.body_fields != {self.discord}:
            raise unauthorized()
        told = self._ask_discord(parsed)
        if parsed.issues:
            raise Invalid(parsed.issues, self._missing(parsed))
        with transaction(write=True):
            if judged:
                self._admit()
            if absent := self._missing(parsed):
                raise Invalid(absent)
            if judged:
                self._permit(parsed)
            return self.view(**self._arguments(parsed), **told)

    def _admit(self) -> None:
        """Refuse callers with bad credentials, and those who may not do this to anything."""
        caller = authenticate()
        if self.needs and not may_ever(caller, self.needs):
            raise Forbidden(f"This needs {needs(self.needs)}.")

    def _permit(self, parsed: Parsed) -> None:
        if self.needs and depends_on_target(self.needs):
            permit(self.needs, target(parsed.path))

    def _parse(self, path: dict[str, str]) -> Parsed:
        return parse(path, self.path_fields, self._query, self._body)

    def _missing(self, parsed: Parsed) -> Issues:
        return missing(parsed, self.path_fields, self._query, self._body)

    def _arguments(self, parsed: Parsed) -> dict[str, Any]:
        arguments = dict(parsed.path)
        if self.query:
            arguments["query"] = parsed.query
        if self.body:
            arguments["body"] = parsed.body
        return arguments

    def _ask_discord(self, parsed: Parsed) -> dict[str, Any]:
        """Return the Discord user that a token in the body belongs to, as the view's argument."""
        if not self.discord:
            return {}
        token = parsed.body.pop(self.discord, None)
        if token is None or parsed.issues:
            return {"discord_user": None}
        try:
            return {"discord_user": identify(token)}
        except BadTokenError:
            if self.needs is None:  # the token is the caller's only credential
                challenge = WWWAuthenticate("bearer", {"error": "invalid_token"})
                raise Unauthorized(BAD_TOKEN, www_authenticate=challenge) from None
            parsed.issues.append(issue(["body", self.discord], Message(BAD_TOKEN)))
            return {}

    def _answer(self, result: Any) -> Response:
        """Return the response to a view's JSON, or value to be made JSON, or mere status."""
        status = next(iter(self.returns))
        if isinstance(result, int) or result is None:
            return Response(status=result or status)
        body = (
            result
            if isinstance(result, bytes)
            else json.dumps(result, separators=(",", ":")) + "\n"
        )
        return Response(body, status, mimetype="application/json")


def permit(action: Action, target: Target) -> None:
    """Raise `Forbidden` unless a rule allows the caller of the current request this action."""
    if not may(principal(), action, target):
        raise Forbidden(f"This needs {needs(action)}.")


class Blueprint(flask.Blueprint):
    """A blueprint whose routes are endpoints of this API."""

    def __init__(self, name: str, import_name: str, description: str) -> None:
        super().__init__(name, import_name)
        self.description = description
        self.described: list[Endpoint] = []

    def get(self, *rules: str, **options: Any) -> Callable[[View], View]:
        """Make an endpoint that reads; the options are those of `Endpoint`."""
        return self._endpoint("GET", rules, options)

    def post(self, *rules: str, **options: Any) -> Callable[[View], View]:
        """Make an endpoint that creates something."""
        return self._endpoint("POST", rules, options)

    def put(self, *rules: str, **options: Any) -> Callable[[View], View]:
        """Make an endpoint that puts something in its place."""
        return self._endpoint("PUT", rules, options)

    def patch(self, *rules: str, **options: Any) -> Callable[[View], View]:
        """Make an endpoint that changes something."""
        return self._endpoint("PATCH", rules, options)

    def delete(self, *rules: str, **options: Any) -> Callable[[View], View]:
        """Make an endpoint that deletes something."""
        return self._endpoint("DELETE", rules, options)

    def _endpoint(
        self, method: str, rules: tuple[str, ...], options: dict[str, Any]
    ) -> Callable[[View], View]:
        def decorator(view: View) -> View:
            for rule in rules:
                endpoint = Endpoint(
                    method=method, rule=rule, view=view, deprecated=rule != rules[0], **options
                )
                self.described.append(endpoint)
                self.add_url_rule(rule, f"{method} {rule}", endpoint, methods=[method])
            return view

        return decorator
