"""The shape of a request: from path, query and body to checked values, or issues."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import marshmallow as ma
from flask import Flask, request
from marshmallow import ValidationError
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from api.errors import Issues, count_of, issues_of
from fields import MAX_ISSUES, Message

Values = dict[str, Any]
Fields = Mapping[str, ma.fields.Field[Any]]

MAX_BODY = 2**20
LARGE_BODY = 2**16
TOO_LARGE = "The body is larger than 1 MiB."
UNREADABLE_BODY = "The body cannot be read."

_LARGE_BODIES = Lock()
"""Large bodies are parsed one at a time: the result takes 25 times their size."""


@dataclass
class Parsed:
    """The good values of a request, by where they stand, and its issues."""

    path: Values = field(default_factory=dict)
    query: Values = field(default_factory=dict)
    body: Values = field(default_factory=dict)
    issues: Issues = field(default_factory=Issues)

    @property
    def body_fields(self) -> set[str]:
        """The names of the fields that the body has, good or bad."""
        bad = (issue["loc"] for issue in self.issues if issue["loc"][0] == "body")
        return {*self.body, *(loc[1] for loc in bad if len(loc) > 1)}


def init_app(app: Flask) -> None:
    """Refuse bodies that are too large, even where none is needed."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1  # werkzeug cuts off a chunked body there
    app.before_request(_refuse_large_bodies)


def parse(
    path: Mapping[str, str], fields: Fields, query: ma.Schema | None, body: ma.Schema | None
) -> Parsed:
    """Check the shape of everything in a request."""
    parsed = Parsed()
    for name, text in path.items():
        try:
            parsed.path[name] = fields[name].deserialize(text)
        except ValidationError as error:
            parsed.issues.extend(issues_of(["path", name], error.messages))
    try:
        if query is not None:
            parsed.query = _load(query, _read_query())
    except ValidationError as error:
        parsed.query = _good(error)
        parsed.issues.extend(issues_of(["query"], error.messages))
    if body is not None:
        data = _read_body()
        with _LARGE_BODIES if len(data) > LARGE_BODY else nullcontext():
            _parse_body(parsed, body, data)
    elif "CONTENT_LENGTH" in request.environ or "HTTP_TRANSFER_ENCODING" in request.environ:
        _read_body()  # it is not needed, but half a request must change nothing
    return parsed


def _parse_body(parsed: Parsed, schema: ma.Schema, data: bytes) -> None:
    left_out = 0
    try:
        given = _from_json(data)
        if isinstance(given, dict):
            left_out = _leave_out_unknown(given, schema)
        parsed.body = _load(schema, given)
    except ValidationError as error:
        parsed.body = _good(error)
        parsed.issues.add(issues_of(["body"], error.messages), count_of(error.messages) + left_out)
        error.__traceback__ = None  # marshmallow's frames would keep the whole body


def _leave_out_unknown(given: Values, schema: ma.Schema) -> int:
    """Remove the unknown fields of a body beyond those that are listed, and return how many."""
    unlisted = [name for name in given if name not in schema.load_fields][MAX_ISSUES:]
    for name in unlisted:
        del given[name]
    return len(unlisted)


def _load(schema: ma.Schema, given: Any) -> Values:
    values: Values = schema.load(given)
    return values


def _good(error: ValidationError) -> Values:
    return dict(error.valid_data or {})


def _read_query() -> Values:
    """Return the query, with the first value of a parameter that occurs twice."""
    # request.args breaks on bytes over 127 and hides bad UTF-8; here that becomes surrogates.
    text = request.query_string.decode(errors="surrogateescape")
    return dict(reversed(parse_qsl(text, keep_blank_values=True, errors="surrogateescape")))


def _from_json(data: bytes) -> Any:
    try:
        return json.loads(data.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValidationError(Message("The body must be a JSON object.", "invalid_json")) from None


def _read_body() -> bytes:
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise RequestEntityTooLarge(TOO_LARGE) from None
    except Exception:  # noqa: BLE001 - the server's own, for bad chunks
        raise BadRequest(UNREADABLE_BODY) from None
    if len(body) > MAX_BODY:
        raise RequestEntityTooLarge(TOO_LARGE)
    if len(body) < (request.content_length or 0):  # it was cut off
        raise BadRequest(UNREADABLE_BODY)
    return body


def _refuse_large_bodies() -> None:
    if (request.content_length or 0) > MAX_BODY:
        raise RequestEntityTooLarge(TOO_LARGE)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
