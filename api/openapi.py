"""The API's description of itself, OpenAPI, made from the endpoints and their schemas."""

from collections.abc import Iterable, Iterator
from functools import cache
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

import marshmallow as ma
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask, Response, jsonify
from marshmallow import ValidationError

import permissions
from api.endpoints import Blueprint, Endpoint
from api.errors import BUSY, DISK_FULL, issues_of
from api.origins import FOREIGN
from api.parsing import TOO_LARGE, UNREADABLE_BODY
from authentication import unauthorized
from config import VERSION
from fields import REQUIRED, Number
from models import EventType
from schemas import ErrorSchema, InvalidSchema, PingBodySchema, event_body

SHARED = {
    400: UNREADABLE_BODY,
    401: unauthorized().description or "",
    403: FOREIGN,
    413: TOO_LARGE,
    503: BUSY,
    507: DISK_FULL,
}
"""The errors that endpoints have in common, described once."""

DESCRIPTION = f"""Accounts, teams and awards of a Discord community.

Guides: [the API](/docs/api), [callbacks](/docs/callbacks).

Reading these needs no credentials. Everything else is done by an app (username `A1`, created by the
server's host) or by a member's session (`S1`), with its password, by HTTP Basic authentication.
`permissions` is the sum of their permissions: {permissions.LIST}.

Account ids are strings: JavaScript rounds such numbers, and a rounded one is somebody else's id.
An unknown id is an issue in a 422, never a 404. Besides the responses listed with an endpoint, it
may return:

""" + "\n".join(f"- **{status}**: {detail}" for status, detail in SHARED.items())

LICENSE = {"name": "MIT", "identifier": "MIT"}

DELIVERIES = "The events sent to callbacks, with their secret: `Authorization: Bearer SECRET`"

DELIVERED = {
    "webhook-id": "The same each time this delivery is tried.",
    "webhook-timestamp": "When it was sent, in seconds since the UNIX epoch.",
    "webhook-signature": "Its signatures, as specified by Standard Webhooks.",
    "Laurels-Event": "The type of event that the callback is registered for.",
}
"""The headers of a delivery."""

EXAMPLES: dict[str, Any] = {
    "id": "80351110224678912",
    "Award.id": 7,
    "Team.id": 1,
    "Callback.id": 3,
    "name": "Ann",
    "Team.name": "Red",
    "TeamBody.name": "Red",
    "App.name": "my-bot",
    "discriminator": "0",
    "avatar_url": "https://example.com/ann.png",
    "permissions": 32,
    "App.permissions": 95,
    "NewAccount.permissions": 0,
    "created_at": 1767225600.5,
    "member_count": 12,
    "title": "First place",
    "points": 30,
    "NewAward.points": 1,
    "holders": 4,
    "rank": 1,
    "awards": 3,
    "award": 7,
    "Event.id": 1207,
    "Event.type": "account_update",
    "EventQuery.type": "account_update",
    "after": 1206,
    "last": 1207,
    "author": "app 1",
    "Event.team": None,
    "Event.award": None,
    "changed": ["permissions"],
    "AwardUpdate.changed": ["title"],
    "ping": "team_create",
    "granted": 32,
    "revoked": 0,
    "image_url": "https://example.com/first.png",
    "team": 1,
    "account": "80351110224678912",
    "accounts": ["80351110224678912"],
    "username": "A1",
    "Session.username": "S5",
    "password": "y2N0...43 characters...Vw",
    "expires_at": 1769817600.5,
    "event": "team_create",
    "url": "https://bot.example/events",
    "secret": "whsec_MfKQ9r8GKYqrTwjU",
    "callbacks": {"team_create": "https://bot.example/events"},
    "Ping.status": 500,
    "error": "answered with status 500",
    "seconds": 0.012345,
    "waiting": 1,
    "since": 1767225600.5,
    "resting_until": 1767225605.75,
    "last_error": "Connection refused",
    "Delivery.id": "msg_5f0c3c6f9d1b4f6f8f5d0e1b2a3c4d5e",
    "attempts": 1,
    "retry_at": 1767225900.75,
    "Delivery.last_error": "answered with status 500",
    "delivered": 3,
    "token": "6qrZcUqja7812RVdnEKjpzOL4CvHBFG",
    "signups_open": True,
    "status": "ok",
    "page": 0,
    "per_page": 20,
    "pages": 1,
    "results": 1,
    "detail": "This needs an app.",
    "loc": ["body", "name"],
    "msg": str(REQUIRED),
    "type": REQUIRED.type,
}
"""The value of each attribute in examples, unless it is made of the attributes below it."""


def init_app(app: Flask, blueprints: Iterable[Blueprint]) -> None:
    """Serve the description of all endpoints of some blueprints."""

    @cache
    def description() -> dict[str, Any]:
        return _describe(blueprints)

    @app.get("/openapi.json", endpoint="openapi")
    def view_description() -> Response:
        return jsonify(description())


def _describe(blueprints: Iterable[Blueprint]) -> dict[str, Any]:
    plugin = MarshmallowPlugin()
    spec = APISpec(
        "Laurels",
        VERSION,
        "3.1.0",
        plugins=[plugin],
        info={"description": DESCRIPTION, "license": LICENSE},
        servers=[{"url": "/", "description": "This server"}],
    )
    converter = plugin.converter
    assert converter  # noqa: S101 - it was made with the specification
    converter.add_attribute_function(_bounds)
    converter.add_attribute_function(lambda _, field, **__: _example_property(field))
    spec.components.security_scheme("basic", {"type": "http", "scheme": "basic"})
    for status, detail in SHARED.items():
        spec.components.response(_shared(status), _error(status, detail))
    for blueprint in blueprints:
        spec.tag({"name": blueprint.name, "description": blueprint.description})
        for endpoint in blueprint.described:
            path = endpoint.rule.replace("<", "{").replace(">", "}")
            operation = _operation(endpoint) | {"tags": [blueprint.name]}
            spec.path(path=path, operations={endpoint.method.lower(): operation})
    spec.tag({"name": "deliveries", "description": DELIVERIES})
    for name, description in DELIVERED.items():
        parameter = {"required": True, "description": description, "schema": {"type": "string"}}
        spec.components.parameter(name, "header", parameter)
    bodies = {event.value: event_body(event) for event in EventType} | {"ping": PingBodySchema}
    webhooks = {name: {"post": _delivery(name, body)} for name, body in bodies.items()}
    for operations in webhooks.values():
        plugin.operation_helper(operations=operations)
    return spec.to_dict() | {"webhooks": webhooks}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    summary, _, text = cleandoc(endpoint.view.__doc__ or "").partition("\n\n")
    name = _camel(endpoint.view.__name__)
    operation: dict[str, Any] = {
        "operationId": f"{name}Deprecated" if endpoint.deprecated else name,
        "summary": summary,
        "security": [],
        "responses": dict(sorted(_responses(endpoint))),
    }
    if endpoint.deprecated:
        operation["deprecated"] = True
    if endpoint.needs is not None:
        operation["security"].append({"basic": []})
        if endpoint.discord:
            operation["security"].append({})
        else:
            text = f"{text}\n\nNeeds {permissions.needs(endpoint.needs)}.".strip()
    if text:
        operation["description"] = text
    path = ma.Schema.from_dict(endpoint.path_fields, name="Path")
    parameters = [{"in": "path", "schema": path}] if endpoint.path_fields else []
    if endpoint.query:
        parameters.append({"in": "query", "schema": endpoint.query})
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body:
        operation["requestBody"] = _request_body(endpoint.body)
    return operation


def _delivery(name: str, body: type[ma.Schema]) -> dict[str, Any]:
    return {
        "operationId": f"receive{_camel(f'_{name}')}",
        "summary": f"Receive a delivery: {name}",
        "tags": ["deliveries"],
        "security": [],
        "parameters": [{"$ref": f"#/components/parameters/{header}"} for header in DELIVERED],
        "requestBody": _request_body(body),
        "responses": {
            "2XX": {"description": "It was accepted."},
            "default": {
                "description": "It was refused; unless it is a ping, it is tried again later."
            },
        },
    }


def _request_body(body: type[ma.Schema]) -> dict[str, Any]:
    content = {"schema": body, "example": _example_of(body())}
    return {"required": True, "content": {"application/json": content}}


def _responses(endpoint: Endpoint) -> Iterator[tuple[str, Any]]:
    for status, schemas in endpoint.returns.items():
        yield str(status), _response(status, *_contents(schemas))
    shared = {400, 413, 503}
    errors = {}
    if endpoint.needs is not None:
        shared.add(401)
        if endpoint.needs is not permissions.Action.USE_CREDENTIALS:
            errors[403] = f"This needs {permissions.needs(endpoint.needs)}."
    if endpoint.method != "GET":
        shared |= {403, 507}
    errors |= endpoint.errors
    for status, detail in errors.items():
        yield str(status), _error(status, detail)
    for status in sorted(shared - errors.keys()):
        yield str(status), {"$ref": f"#/components/responses/{_shared(status)}"}
    if issues := list(_example_issues(endpoint)):
        content = {"schema": InvalidSchema, "example": {"detail": issues}}
        yield "422", _response(422, content)


def _shared(status: int) -> str:
    return f"Error{status}"


def _error(status: int, detail: str) -> dict[str, Any]:
    return _response(status, {"schema": ErrorSchema, "example": {"detail": detail}})


def _response(status: int, *contents: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    for content in contents:
        response["content"] = {"application/json": content}
    return response


def _contents(schemas: Any) -> Iterator[dict[str, Any]]:
    """Return the content of a response, with an example of each of its schemas."""
    if schemas is None:
        return
    if not isinstance(schemas, tuple):
        yield {"schema": schemas, "example": _example_of(schemas())}
        return
    yield {
        "schema": {"oneOf": list(schemas)},
        "examples": {_name(one): {"value": _example_of(one())} for one in schemas},
    }


def _example_issues(endpoint: Endpoint) -> Iterator[Any]:
    """Return examples of issues, by passing bad values to the schemas."""
    for name, field in endpoint.path_fields.items():
        try:
            field.deserialize("0")
        except ValidationError as error:
            yield from issues_of(["path", name], error.messages)
    bad = (("query", endpoint.query, {"per_page": "0"}), ("body", endpoint.body, {"typo": ""}))
    for location, schema, values in bad:
        try:
            if schema:
                schema().load(values)
        except ValidationError as error:
            yield from issues_of([location], error.messages)


def _example_of(schema: ma.Schema) -> dict[str, Any]:
    """Return an example of a schema's object, with the attributes that have one."""
    fields = schema.fields
    examples = {name: _example(field) for name, field in fields.items()}
    return {
        name: example
        for name, example in examples.items()
        if example is not None or fields[name].required
    }


def _example(field: ma.fields.Field[Any]) -> Any:
    if isinstance(field, ma.fields.Nested):
        return _example_of(field.schema)
    if isinstance(field, ma.fields.List) and isinstance(field.inner, ma.fields.Nested):
        return [_example_of(field.inner.schema)]
    names = [_name(base) for base in type(field.parent).__mro__]
    of_schema = (EXAMPLES[key] for name in names if (key := f"{name}.{field.name}") in EXAMPLES)
    return next(of_schema, EXAMPLES.get(field.name or ""))


def _example_property(field: ma.fields.Field[Any]) -> dict[str, Any]:
    simple = not isinstance(field, ma.fields.Nested | ma.fields.List)
    if not simple or not isinstance(field.parent, ma.Schema):
        return {}
    example = _example(field)
    return {} if example is None else {"examples": [example]}


def _name(schema: type) -> str:
    return schema.__name__.removesuffix("Schema")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _bounds(
    _converter: object, field: ma.fields.Field[Any], *, ret: dict[str, Any], **_: Any
) -> dict[str, Any]:
    """Return the bounds of a number, if it is described as one."""
    if isinstance(field, Number) and "pattern" not in ret:
        return {"minimum": field.least, "maximum": field.most}
    return {}
