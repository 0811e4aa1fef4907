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
answers for those that name nothing. Query and body arrive as `query` and `body`, with ids that
exist; a reference that may be 0, for no record, is None then.
"""

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache, wraps
from inspect import cleandoc
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

import flask_smorest
import marshmallow as ma
from flask import Flask, Response, current_app, request
from marshmallow import ValidationError
from sqlalchemy import Select, bindparam, inspect, select
from sqlalchemy.exc import DBAPIError, OperationalError
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnprocessableEntity,
)
from werkzeug.wrappers import Response as BaseResponse

from api.origins import FOREIGN, SAFE_METHODS
from authentication import (
    Credentials,
    authenticate,
    has_credentials,
    permit,
    read_credentials,
    unauthorized,
)
from callbacks.delivery import deliver_after_write
from callbacks.events import recorded_some
from database import Base, BusyError, batches, connection, db, transaction
from dumping import dumper
from fields import UNKNOWN_FIELD, Discriminator, Id, ListOf, Message, Reference, not_found
from permissions import Action, Target, needs
from schemas import PATH, ErrorSchema, InvalidSchema, example_of, example_of_body

Found = TypeVar("Found")
View = Callable[..., Any]
Decorator = Callable[[View], View]
Issue = dict[str, Any]
Arguments = dict[str, ma.Schema]
Values = dict[str, Any]
Condition = Callable[[set[str]], bool]

MAX_BODY = 2**20
BUSY = "The database is busy. Try again."
TOO_LARGE = "The body is larger than 1 MiB."
UNREADABLE = "The body cannot be read."


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
    try:
        size = len(request.get_data())
    except RequestEntityTooLarge:
        size = MAX_BODY + 1
    except Exception:  # noqa: BLE001 - the server's own, for bad chunks
        raise BadRequest(UNREADABLE) from None
    if size > MAX_BODY:
        raise RequestEntityTooLarge(TOO_LARGE)


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
            whole = key == "_schema" and nested != [UNKNOWN_FIELD]
            yield from _issues(loc if whole else [*loc, str(key)], nested)
    else:
        for message in messages:
            yield _issue(loc, message)


def _issue(loc: list[str], message: Message) -> Issue:
    return {"loc": loc, "msg": str(message), "type": message.type}


# --- What a request names ---


def _look_up(arguments: Arguments, values: Values) -> list[Issue]:
    """Check that what ids refer to exists; in the path, put the records in their place."""
    references = list(_references(arguments, values))
    wanted: dict[tuple[type[Base], bool], set[int]] = defaultdict(set)
    for location, name, reference in references:
        value = values[location][name]
        ids = filter(None, value if isinstance(value, list) else [value])
        wanted[reference.model, location == "path"].update(ids)
    found = {what: _fetch(*what, ids) for what, ids in wanted.items()}

    issues = []
    for location, name, reference in references:
        records = found[reference.model, location == "path"]
        missing = not_found(reference.model_name)
        value = values[location][name]
        if isinstance(value, list):
            issues += [
                _issue([location, name, str(index)], missing)
                for index, key in enumerate(value)
                if key and key not in records
            ]
        else:
            if value and value not in records:
                issues.append(_issue([location, name], missing))
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


def _fetch(model: type[Base], whole: bool, ids: set[int]) -> Mapping[int, Any]:  # noqa: FBT001
    """Find records by their ids: the whole records, or just which there are."""
    by_id, only_ids, key = _fetch_statements(model)
    if whole:
        return {
            getattr(record, key): record
            for batch in batches(ids)
            for record in db.session.scalars(by_id, {"ids": batch})
        }
    return {
        key: key for batch in batches(ids) for key in connection().scalars(only_ids, {"ids": batch})
    }


@cache
def _fetch_statements(model: type[Base]) -> tuple[Select[Any], Select[Any], str]:
    key = inspect(model).primary_key[0]
    named = key.in_(bindparam("ids", expanding=True))
    return select(model).where(named), select(key).where(named), key.name


def found(record: Found | None, parameter: str) -> Found:
    """Give the record that was read for an id in the path; raise `Invalid` if there is none."""
    if record is None:
        raise Invalid([_issue(["path", parameter], not_found(parameter))])
    return record


# --- Endpoints ---


@dataclasses.dataclass
class Contract:
    """What a view takes, needs and gives, noted down by its decorators."""

    arguments: Arguments = dataclasses.field(default_factory=dict)
    prepare: Callable[[Values], None] = lambda _: None
    actions: tuple[Action, ...] | None = None
    unless: Condition | None = None
    status: int = 200
    dump: Callable[[Any], Any] | None = None


def _contract(view: View) -> Contract:
    if not hasattr(view, "contract"):
        view.contract = Contract()  # type: ignore[attr-defined]
    contract: Contract = view.contract  # type: ignore[attr-defined]
    return contract


class Blueprint(flask_smorest.Blueprint):
    """A blueprint whose routes are endpoints of this API.

    flask-smorest's decorators wrap a view in code of theirs. These take over only what they
    document, and note down the rest in the view's contract, which its endpoint keeps.
    """

    def arguments(self, schema: type[ma.Schema], *, location: str = "body") -> Decorator:
        """Take a schema's fields from the body, the query or the path."""

        def decorator(view: View) -> View:
            contract = _contract(view)
            contract.arguments = {location: schema(), **contract.arguments}
            place, options = location, {}
            if location == "body":
                place, options = "json", {"example": example_of_body(schema())}
            return _document(
                view, super(Blueprint, self).arguments(schema, location=place, **options)
            )

        return decorator

    def response(self, status: int, schema: Any = None, **documentation: Any) -> Decorator:
        """Give this status, and what the view returns in the shape of a schema."""

        def decorator(view: View) -> View:
            contract = _contract(view)
            contract.status = status
            contract.dump = dumper(schema()) if isinstance(schema, type) else None
            if schema is not None:
                documentation["examples"] = _examples(schema)
            documenting = super(Blueprint, self).response(status, schema, **documentation)
            return _document(view, documenting)

        return decorator

    def alt_response(self, status: int, **documentation: Any) -> Decorator:
        """Document another response."""
        documenting = super().alt_response(status, **documentation)
        return lambda view: _document(view, documenting)

    def error(self, status: int, detail: str) -> Decorator:
        """Document an error, and what it says."""
        return self.alt_response(status, schema=ErrorSchema, example={"detail": detail})

    def requires(self, *actions: Action, unless: Condition | None = None) -> Decorator:
        """Ask for credentials, and for permission to do all of these to what the path names.

        If `unless` holds for the names of the body's fields, good or bad, the request may come
        without credentials, but not with bad ones.
        """

        def decorator(view: View) -> View:
            contract = _contract(view)
            contract.actions, contract.unless = actions, unless
            security: list[dict[str, list[str]]] = [{"basic": []}]
            if unless is None:
                words = "; and ".join(map(needs, actions)) or "credentials"
                view.__doc__ = f"{cleandoc(view.__doc__ or '')}\n\nNeeds {words}."
            else:
                security.append({})
            return _document(view, self.doc(security=security))

        return decorator

    def prepares(self, prepare: Callable[[Values], None]) -> Decorator:
        """Let a function work on the body while no transaction is open, to ask other servers.

        It may raise `ValidationError` for a field.
        """

        def decorator(view: View) -> View:
            _contract(view).prepare = prepare
            return view

        return decorator

    def route(self, rule: str, **options: Any) -> Decorator:
        """Make an endpoint of a view: see the top of this file."""

        def decorator(view: View) -> View:
            fields = {name: PATH[name] for name in re.findall(r"<(\w+)>", rule)}
            if fields and "path" not in _contract(view).arguments:
                self.arguments(ma.Schema.from_dict(fields, name="Path"), location="path")(view)
            methods = options.get("methods", ["GET"])
            self._document_errors(view, safe=SAFE_METHODS.issuperset(methods))
            super(Blueprint, self).route(rule, **options)(_endpoint(view))
            return view

        return decorator

    def _document_errors(self, view: View, *, safe: bool) -> None:
        """Document the errors that an endpoint has for what it takes and needs."""
        contract = _contract(view)
        errors = {400: UNREADABLE, 413: TOO_LARGE, 503: BUSY}
        if contract.actions is not None:
            errors[401] = unauthorized().description
        if contract.actions:
            errors[403] = f"This needs {needs(contract.actions[0])}."
        if not safe:
            errors.setdefault(403, FOREIGN)
            errors[507] = InsufficientStorage.description
        for status in errors.keys() - _documented(view):
            self.error(status, errors[status])(view)
        if contract.arguments:
            example = {"detail": list(_example_issues(contract.arguments))}
            self.alt_response(422, schema=InvalidSchema, example=example)(view)


def _examples(schema: Any) -> Values:
    """Make an example of each schema that a response may have."""
    schemas = schema["oneOf"] if isinstance(schema, dict) else [schema]
    return {one.__name__.removesuffix("Schema"): {"value": example_of(one())} for one in schemas}


def _example_issues(arguments: Arguments) -> Iterator[Issue]:
    """Make an example of issues, by really giving something bad to the schemas."""
    for location, schema in arguments.items():
        bad = {"query": {"page": "-1"}, "body": {"typo": ""}}
        try:
            schema.load(bad.get(location) or dict.fromkeys(schema.load_fields, "0"))
        except ValidationError as error:
            yield from _issues([location], error.messages)


def _documented(view: View) -> set[int]:
    """List the statuses that a view documents."""
    documentation = view._apidoc  # type: ignore[attr-defined]  # noqa: SLF001
    return set(documentation["response"]["responses"])


def _document(view: View, documenting: Decorator) -> View:
    """Take over what one of flask-smorest's decorators documents, without its code."""
    view._apidoc = documenting(view)._apidoc  # type: ignore[attr-defined]  # noqa: SLF001
    return view


def _endpoint(view: View) -> View:
    contract = _contract(view)

    @wraps(view)
    def endpoint(**_: str) -> Any:
        values, issues = _load(contract.arguments)
        body = values.get("body", {})
        credentials = None
        if contract.actions is not None:
            bad = {loc[1] for loc in (issue["loc"] for issue in issues) if loc[:-1] == ["body"]}
            spared = contract.unless is not None and contract.unless({*body, *bad})
            if has_credentials() or not spared:
                credentials = read_credentials()
        if not issues:
            try:
                contract.prepare(body)
            except ValidationError as error:
                issues += _issues(["body"], error.messages)
        with transaction(write=request.method not in SAFE_METHODS and not issues):
            result = _call(view, contract, values, issues, credentials)
        if recorded_some():
            deliver_after_write()
        return _answer(contract, result)

    return endpoint


def _call(
    view: View,
    contract: Contract,
    values: Values,
    issues: list[Issue],
    credentials: Credentials | None,
) -> Any:
    """Do what needs the database: authenticate, look up, permit, and call the view."""
    if credentials is not None:
        authenticate(credentials)
    issues += _look_up(contract.arguments, values)
    if issues:
        raise Invalid(issues)
    path = values.pop("path", {})
    for action in contract.actions or ():
        permit(action, _target(path))
    return view(**path, **values)


def _answer(contract: Contract, result: Any) -> BaseResponse:
    if isinstance(result, BaseResponse):
        return result
    if contract.dump is None:
        return Response(status=contract.status)
    body = current_app.json.dumps(contract.dump(result), separators=(",", ":")) + "\n"
    return Response(body, contract.status, mimetype="application/json")


def _target(path: Values) -> Target:
    """Say what a request is about, from the records that its path names."""
    account, team = path.get("account"), path.get("team")
    if account is not None:
        return Target(account_id=account.id, team_id=account.team_id)
    return Target(team_id=team and team.id)


def _nothing_but_null(
    _converter: object, _field: ma.fields.Field[Any], *, ret: Values, **_: Any
) -> Values:
    """Let what may be null be a certain object or null, where apispec says: or any object."""
    for one in ret.get("anyOf", []):
        if one == {"type": "object", "nullable": True}:
            one["enum"] = [None]
    return {}


class Api(flask_smorest.Api):
    """The API as a whole: its documentation and its errors."""

    ERROR_SCHEMA = ErrorSchema
    DEFAULT_ERROR_RESPONSE_NAME = None  # each endpoint documents its own

    def init_app(self, app: Flask, **options: Any) -> None:
        """Serve the API's description, and give every error of the app the one shape."""
        app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1
        super().init_app(app, **options)
        del self.spec.components.schemas["PaginationMetadata"]  # pages are told of in the body
        self.spec.components.security_scheme("basic", {"type": "http", "scheme": "basic"})
        for field in (Id, Discriminator):  # their metadata says what they take
            self.ma_plugin.map_to_openapi_type(field, None, None)
        self.ma_plugin.converter.add_attribute_function(_nothing_but_null)
        app.before_request(_read_body)
        app.register_error_handler(DBAPIError, self.handle_database_error)
        app.register_error_handler(BusyError, self.handle_busy_database)

    def handle_http_exception(self, error: HTTPException) -> BaseResponse:
        """Answer an error: `detail` is a list of issues for status 422, a sentence otherwise."""
        response = error.get_response()
        detail = error.issues if isinstance(error, Invalid) else error.description
        response.set_data(json.dumps({"detail": detail}))
        response.content_type = "application/json"
        return response

    def handle_busy_database(self, _error: Exception) -> BaseResponse:
        """Ask the client to come back."""
        return self.handle_http_exception(ServiceUnavailable(BUSY, retry_after=5))

    def handle_database_error(self, error: DBAPIError) -> BaseResponse:
        """Name what is wrong with the disk or the database; anything else is our own fault."""
        name = getattr(error.orig, "sqlite_errorname", "")
        if name == "SQLITE_FULL":
            return self.handle_http_exception(InsufficientStorage())
        if name.startswith("SQLITE_BUSY"):
            return self.handle_busy_database(error)
        if isinstance(error, OperationalError) or name in {"SQLITE_CORRUPT", "SQLITE_NOTADB"}:
            current_app.logger.error("The database cannot be used: %s", error.orig)
            unusable = ServiceUnavailable("The database cannot be used. Tell the server's host.")
            return self.handle_http_exception(unusable)
        raise error
