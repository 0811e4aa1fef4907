"""The one place that bends flask-smorest: the life of a request, and the shape of errors.

A view says with decorators what it takes (`arguments`), gives (`response`) and needs (`requires`).
`route`, outermost, makes an endpoint of it, which
1. checks the shape of path, query and body, and asks other servers, without the database;
2. opens one transaction, for writing unless the method is safe or something is already wrong;
3. authenticates the caller (401), looks up what the request names, and answers with all issues of
   shape and existence together (422);
4. applies the rule for the action (403) and calls the view; the transaction commits at its end;
5. delivers, if the view recorded events, and answers.

A write's view gets the records that the path names; a read's view gets their ids, and `found`
answers for those that name nothing. Query and body arrive as `query` and `body`.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

import flask_smorest
import marshmallow as ma
from flask import Flask, current_app, request
from marshmallow import ValidationError
from sqlalchemy import inspect, select
from sqlalchemy.exc import DBAPIError, OperationalError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import (
    HTTPException,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnprocessableEntity,
)
from werkzeug.wrappers import Response

from authentication import (
    Credentials,
    authenticate,
    has_credentials,
    permit,
    read_credentials,
)
from database import Base, batches, db, transaction
from delivery import deliver_after_write
from events import recorded_some
from permissions import Action, Target, needs
from schemas import PATH, ErrorSchema, InvalidSchema, ListOf, Message, Reference, not_found

Found = TypeVar("Found")
View = Callable[..., Any]
Issue = dict[str, Any]
Arguments = dict[str, ma.Schema]
Values = dict[str, Any]

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
MAX_BODY = 2**20


class Invalid(UnprocessableEntity):
    """A request with something wrong in it: all of it, as a list of issues."""

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__()
        self.issues = issues


class InsufficientStorage(HTTPException):
    """The disk, or what the database may use of it, is full."""

    code = 507
    description = "The server's disk is full, so nothing was changed. Tell its host."


# --- What a request holds ---


def _path() -> Any:
    return request.view_args


def _query() -> Any:
    # request.args breaks on bytes over 127 and hides bad UTF-8; here that becomes surrogates.
    return dict(
        reversed(
            parse_qsl(
                request.query_string.decode(errors="surrogateescape"),
                keep_blank_values=True,
                errors="surrogateescape",
            )
        )
    )


def _body() -> Any:
    try:
        return json.loads(request.get_data().decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValidationError(Message("The body must be a JSON object.", "invalid_json")) from None


def _read_body() -> None:
    """Read the whole body, whoever needs it: one that is too large is a 413 everywhere.

    A chunked body is cut off at MAX_CONTENT_LENGTH without a word, so that is one byte more.
    """
    if len(request.get_data()) > MAX_BODY:
        raise RequestEntityTooLarge


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


SOURCES: dict[str, Callable[[], Any]] = {"path": _path, "query": _query, "body": _body}


def _load(arguments: Arguments) -> tuple[Values, list[Issue]]:
    """Check the shape of everything a request holds."""
    values: Values = {}
    issues: list[Issue] = []
    for location, schema in arguments.items():
        try:
            values[location] = schema.load(SOURCES[location]())
        except ValidationError as error:
            values[location] = error.valid_data or {}
            issues += _issues([location], error.messages)
    return values, issues


def _issues(loc: list[str], messages: Any) -> Iterator[Issue]:
    """Make one list of marshmallow's nested messages."""
    if isinstance(messages, dict):
        for key, nested in messages.items():
            yield from _issues(loc if key == "_schema" else [*loc, str(key)], nested)
    else:
        for message in messages:
            yield _issue(loc, message)


def _issue(loc: list[str], message: Message) -> Issue:
    return {"loc": loc, "msg": str(message), "type": message.type}


# --- What a request names ---


def _look_up(arguments: Arguments, values: Values) -> list[Issue]:
    """Put records in the place of the ids that refer to them, and list the ids of nothing."""
    references = list(_references(arguments, values))
    wanted: dict[type[Base], set[int]] = defaultdict(set)
    for location, name, field in references:
        value = values[location][name]
        wanted[field.model].update(filter(None, value if isinstance(value, list) else [value]))
    found = {model: _fetch(model, ids) for model, ids in wanted.items()}

    issues = []
    for location, name, field in references:
        records, value = found[field.model], values[location][name]
        if isinstance(value, list):
            issues += [
                _issue([location, name, str(index)], not_found(field.model_name))
                for index, key in enumerate(value)
                if key and key not in records
            ]
            values[location][name] = [records.get(key) for key in filter(None, value)]
        else:
            if value and value not in records:
                issues.append(_issue([location, name], not_found(field.model_name)))
            values[location][name] = records.get(value)
    return issues


def _references(arguments: Arguments, values: Values) -> Iterator[tuple[str, str, Reference]]:
    for location, schema in arguments.items():
        if location == "path" and request.method in SAFE_METHODS:
            continue
        for name, field in schema.load_fields.items():
            reference = field.inner if isinstance(field, ListOf) else field
            if isinstance(reference, Reference) and name in values[location]:
                yield location, name, reference


def _fetch(model: type[Base], ids: set[int]) -> dict[int, Base]:
    key = inspect(model).primary_key[0]
    return {
        getattr(record, key.name): record
        for batch in batches(ids)
        for record in db.session.scalars(select(model).where(key.in_(batch)))
    }


def found(record: Found | None, parameter: str) -> Found:
    """Give the record that was read for an id in the path; raise `Invalid` if there is none."""
    if record is None:
        raise Invalid([_issue(["path", parameter], not_found(parameter))])
    return record


# --- Endpoints ---


class Parser(FlaskParser):
    """Leaves the reading of arguments to the endpoint, which reports all issues together."""

    def use_args(  # type: ignore[override]  # what flask-smorest gives
        self, argmap: Any, *, location: str, **_: Any
    ) -> Callable[[View], View]:
        """Note down on the view what it takes."""
        location = {"json": "body"}.get(location, location)

        def decorator(view: View) -> View:
            noted = getattr(view, "arguments", {})
            view.arguments = {location: argmap(), **noted}  # type: ignore[attr-defined]
            return view

        return decorator


class Blueprint(flask_smorest.Blueprint):
    """A blueprint whose routes are endpoints of this API."""

    ARGUMENTS_PARSER = Parser()

    def requires(
        self, *actions: Action, unless: Callable[[Values], bool] = lambda _: False
    ) -> Callable[[View], View]:
        """Ask for credentials, and for permission to do all of these to what the path names.

        A request whose body meets `unless` may come without credentials, but not with bad ones.
        """

        def decorator(view: View) -> View:
            view.actions = actions  # type: ignore[attr-defined]
            view.unless = unless  # type: ignore[attr-defined]
            words = "; and ".join(map(needs, actions)) or "credentials"
            view.__doc__ = f"{view.__doc__}\n\nNeeds {words}."
            documented: View = self.doc(security=[{"basic": []}])(view)
            return documented

        return decorator

    def prepares(self, prepare: Callable[[Values], None]) -> Callable[[View], View]:
        """Let a function work on the body while no transaction is open, to ask other servers.

        It may raise `ValidationError` for a field.
        """

        def decorator(view: View) -> View:
            view.prepare = prepare  # type: ignore[attr-defined]
            return view

        return decorator

    def route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Make an endpoint of a view: see the top of this file."""

        def decorator(view: View) -> View:
            names = [name.rstrip(">") for name in rule.split("<")[1:]]
            names = [name.split(">")[0] for name in names]
            if names:
                path = ma.Schema.from_dict({name: PATH[name] for name in names}, name="Path")
                view = self.arguments(path, location="path")(view)
            if hasattr(view, "arguments"):
                view = self.alt_response(422, schema=InvalidSchema)(view)
            super(Blueprint, self).route(rule, **options)(_endpoint(view))
            return view

        return decorator


def _endpoint(view: View) -> View:
    arguments: Arguments = getattr(view, "arguments", {})
    actions: tuple[Action, ...] | None = getattr(view, "actions", None)
    unless: Callable[[Values], bool] = getattr(view, "unless", lambda _: False)
    prepare: Callable[[Values], None] = getattr(view, "prepare", lambda _: None)

    @wraps(view)
    def endpoint(**_: str) -> Any:
        values, issues = _load(arguments)
        credentials = None
        if actions is not None and (has_credentials() or not unless(values.get("body", {}))):
            credentials = read_credentials()
        if not issues:
            try:
                prepare(values.get("body", {}))
            except ValidationError as error:
                issues += _issues(["body"], error.messages)
        result = transact(values, issues, credentials)
        if recorded_some():
            deliver_after_write()
        return result

    def transact(values: Values, issues: list[Issue], credentials: Credentials | None) -> Any:
        with transaction(write=request.method not in SAFE_METHODS and not issues):
            if credentials is not None:
                authenticate(credentials)
            issues += _look_up(arguments, values)
            if issues:
                raise Invalid(issues)
            path = values.pop("path", {})
            for action in actions or ():
                permit(action, _target(path))
            return view(**path, **values)

    return endpoint


def _target(path: Values) -> Target:
    """Say what a request is about, from the records that its path names."""
    account, team = path.get("account"), path.get("team")
    if account is not None:
        return Target(account_id=account.id, team_id=account.team_id)
    return Target(team_id=team and team.id)


class Api(flask_smorest.Api):
    """The API as a whole: its documentation and its errors."""

    ERROR_SCHEMA = ErrorSchema

    def init_app(self, app: Flask, **options: Any) -> None:
        """Serve the API's description, and give every error of the app the one shape."""
        app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1
        super().init_app(app, **options)
        self.spec.components.security_scheme("basic", {"type": "http", "scheme": "basic"})
        app.before_request(_read_body)
        app.register_error_handler(DBAPIError, self.handle_database_error)

    def handle_http_exception(self, error: HTTPException) -> Response:
        """Answer an error: `detail` is a list of issues for status 422, a sentence otherwise."""
        response = error.get_response()
        detail = error.issues if isinstance(error, Invalid) else error.description
        response.set_data(json.dumps({"detail": detail}))
        response.content_type = "application/json"
        return response

    def handle_database_error(self, error: DBAPIError) -> Response:
        """Name what is wrong with the disk or the database; anything else is our own fault."""
        name = getattr(error.orig, "sqlite_errorname", "")
        if name == "SQLITE_FULL":
            return self.handle_http_exception(InsufficientStorage())
        if name.startswith("SQLITE_BUSY"):
            busy = ServiceUnavailable("The database is busy. Try again.", retry_after=5)
            return self.handle_http_exception(busy)
        if isinstance(error, OperationalError) or name in {"SQLITE_CORRUPT", "SQLITE_NOTADB"}:
            current_app.logger.error("The database cannot be used: %s", error.orig)
            unusable = ServiceUnavailable("The database cannot be used. Tell the server's host.")
            return self.handle_http_exception(unusable)
        raise error
