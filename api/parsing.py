"""The shape of a request: path, query and body to checked values, or to issues."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import marshmallow as ma
from flask import Flask, request
from marshmallow import ValidationError
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from api.errors import Issue, issues_of
from fields import Message

Values = dict[str, Any]
Fields = Mapping[str, ma.fields.Field[Any]]

MAX_BODY = 2**20
TOO_LARGE = "The body is larger than 1 MiB."
UNREADABLE_BODY = "The body cannot be read."


@dataclass
class Parsed:
    """The values of a request that are good, by where they stand, and what is wrong."""

    path: Values = field(default_factory=dict)
    query: Values = field(default_factory=dict)
    body: Values = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)

    @property
    def body_fields(self) -> set[str]:
        """The names of the fields that the body has, good or bad."""
        bad = (issue["loc"] for issue in self.issues if issue["loc"][0] == "body")
        return {*self.body, *(loc[1] for loc in bad if len(loc) > 1)}


def init_app(app: Flask) -> None:
    """Refuse bodies that are too large, whoever needs them."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1  # werkzeug cuts off a chunked body there
    app.before_request(_refuse_large_bodies)


def parse(
    path: Mapping[str, str], fields: Fields, query: ma.Schema | None, body: ma.Schema | None
) -> Parsed:
    """Check the shape of all that a request holds."""
    parsed = Parsed()
    for name, text in path.items():
        try:
            parsed.path[name] = fields[name].deserialize(text)
        except ValidationError as error:
            parsed.issues += issues_of(["path", name], error.messages)
    try:
        if query is not None:
            parsed.query = _load(query, _read_query())
    except ValidationError as error:
        parsed.query = _good(error)
        parsed.issues += issues_of(["query"], error.messages)
    try:
        if body is not None:
            parsed.body = _load(body, _read_json())
        elif "CONTENT_LENGTH" in request.environ or "HTTP_TRANSFER_ENCODING" in request.environ:
            _read_body()  # nobody needs it, but half a request changes nothing
    except ValidationError as error:
        parsed.body = _good(error)
        parsed.issues += issues_of(["body"], error.messages)
    return parsed


def _load(schema: ma.Schema, given: Any) -> Values:
    values: Values = schema.load(given)
    return values


def _good(error: ValidationError) -> Values:
    return dict(error.valid_data or {})


def _read_query() -> Values:
    """Return the query; of a parameter that is given twice, the first."""
    # request.args breaks on bytes over 127 and hides bad UTF-8; here that becomes surrogates.
    text = request.query_string.decode(errors="surrogateescape")
    return dict(reversed(parse_qsl(text, keep_blank_values=True, errors="surrogateescape")))


def _read_json() -> Any:
    try:
        return json.loads(_read_body().decode(), parse_constant=_refuse)
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
    if len(body) < (request.content_length or 0):  # it broke off
        raise BadRequest(UNREADABLE_BODY)
    return body


def _refuse_large_bodies() -> None:
    if (request.content_length or 0) > MAX_BODY:
        raise RequestEntityTooLarge(TOO_LARGE)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
