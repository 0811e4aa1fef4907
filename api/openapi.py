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
from fields import REQUIRED, Discriminator, Id
from schemas import ErrorSchema, InvalidSchema

DESCRIPTION = f"""Accounts, teams and awards of a Discord community.

What only reads these needs no credentials. All else is done by an app (username `A1`, made by the
server's host) or by a member's session (`S1`), with their password, by HTTP Basic authentication.
`permissions` is the sum of what they may do: {permissions.LIST}.
"""

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
"""The value of each attribute in examples, where it is not made of the attributes below it."""


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
    spec = APISpec("Laurels", VERSION, "3.0.3", plugins=[plugin], info={"description": DESCRIPTION})
    converter = plugin.converter
    assert converter  # noqa: S101 - it was made with the specification
    for field in (Id, Discriminator):  # their metadata says what they take
        plugin.map_to_openapi_type(field, None, None)
    converter.add_attribute_function(_nothing_but_null)
    converter.add_attribute_function(lambda _, field, **__: _example_property(field))
    spec.components.security_scheme("basic", {"type": "http", "scheme": "basic"})
    for blueprint in blueprints:
        spec.tag({"name": blueprint.name, "description": blueprint.description})
        for endpoint in blueprint.described:
            path = endpoint.rule.replace("<", "{").replace(">", "}")
            operation = _operation(endpoint) | {"tags": [blueprint.name]}
            spec.path(path=path, operations={endpoint.method.lower(): operation})
    return spec.to_dict()


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    summary, _, text = cleandoc(endpoint.view.__doc__ or "").partition("\n\n")
    operation: dict[str, Any] = {"summary": summary, "responses": dict(_responses(endpoint))}
    if endpoint.needs is not None:
        operation["security"] = [{"basic": []}]
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
        content = {"schema": endpoint.body, "example": _example_of(endpoint.body())}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _responses(endpoint: Endpoint) -> Iterator[tuple[str, Any]]:
    for status, schemas in endpoint.returns.items():
        yield _response(status, *_contents(schemas))
    errors = {400: UNREADABLE_BODY, 413: TOO_LARGE, 503: BUSY}
    if endpoint.needs is not None:
        errors[401] = unauthorized().description or ""
        if endpoint.needs is not permissions.Action.USE_CREDENTIALS:
            errors[403] = f"This needs {permissions.needs(endpoint.needs)}."
    if endpoint.method != "GET":
        errors[507] = DISK_FULL
        errors.setdefault(403, FOREIGN)
    for status, detail in (errors | dict(endpoint.errors)).items():
        yield _response(status, {"schema": ErrorSchema, "example": {"detail": detail}})
    if issues := list(_example_issues(endpoint)):
        yield _response(422, {"schema": InvalidSchema, "example": {"detail": issues}})


def _response(status: int, *contents: dict[str, Any]) -> tuple[str, Any]:
    response: dict[str, Any] = {"description": _phrase(status)}
    for content in contents:
        response["content"] = {"application/json": content}
    return str(status), response


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def _contents(schemas: Any) -> Iterator[dict[str, Any]]:
    """Return what a response holds, with an example of each schema that it may have."""
    if schemas is None:
        return
    several = schemas if isinstance(schemas, tuple) else (schemas,)
    yield {
        "schema": {"oneOf": list(several)} if len(several) > 1 else several[0],
        "examples": {_name(one): {"value": _example_of(one())} for one in several},
    }


def _example_issues(endpoint: Endpoint) -> Iterator[Any]:
    """Return examples of issues, by really giving something bad to the schemas."""
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
    """Return an example of what a schema describes, of the attributes that have one."""
    examples = {name: _example(field) for name, field in schema.fields.items()}
    fields = schema.fields
    return {
        name: example
        for name, example in examples.items()
        if example is not None or fields[name].allow_none
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
    return {} if example is None else {"example": example}


def _name(schema: type) -> str:
    return schema.__name__.removesuffix("Schema")


def _nothing_but_null(
    _converter: object, _field: ma.fields.Field[Any], *, ret: dict[str, Any], **_: Any
) -> dict[str, Any]:
    """Let what may be null be a certain object or null, where apispec says: or any object."""
    for one in ret.get("anyOf", []):
        if one == {"type": "object", "nullable": True}:
            one["enum"] = [None]
    return {}
