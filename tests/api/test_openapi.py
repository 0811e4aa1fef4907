"""The API's description of itself: complete, true, and with examples."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import validate

from models import EventType
from tests.api.test_bad_input import FIELDS
from tests.support.description import Description

WITHOUT_CREDENTIALS = {("post", "/auth/discord")}


def operations(description: Description) -> Iterator[tuple[str, str, Any]]:
    """Go through the operations: method, path, and description."""
    for path, methods in description.document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield method, path, operation


def test_it_is_openapi(description: Description) -> None:
    document = description.document
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert document["servers"] == [{"url": "/", "description": "This server"}]
    assert document["components"]["securitySchemes"] == {
        "basic": {"type": "http", "scheme": "basic"}
    }


def test_names_for_clients(description: Description) -> None:
    names = {
        operation["operationId"]: (method, path, operation.get("deprecated", False))
        for method, path, operation in operations(description)
    }
    assert len(names) == len(list(operations(description)))
    assert names["createAccount"] == ("post", "/accounts/new", False)
    assert names["createAccountDeprecated"] == ("post", "/acounts/new", True)
    assert [name for name, (*_, old) in names.items() if old] == ["createAccountDeprecated"]
    assert all(re.fullmatch("[a-z]+([A-Z][a-z]+)*", name) for name in names)


def test_each_parameter_is_explained(description: Description) -> None:
    for _, path, operation in operations(description):
        for parameter in operation.get("parameters", []):
            assert parameter["in"] == "path" or parameter["description"], path


def test_it_has_every_endpoint(app: Flask, description: Description) -> None:
    served = {
        (method.lower(), re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith(("pages.", "docs.", "guides.", "openapi"))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in operations(description)} == served


def test_it_says_what_an_endpoint_needs(description: Description) -> None:
    for method, path, operation in operations(description):
        assert operation["summary"], (method, path)
        if method != "get" and (method, path) not in WITHOUT_CREDENTIALS:
            assert operation["security"][:1] == [{"basic": []}], (method, path)
            assert re.search(r"\bneeds? ", operation["description"], re.IGNORECASE)
        assert ("401" in operation["responses"]) is (
            bool(operation["security"]) or (method, path) in WITHOUT_CREDENTIALS
        )
    assert description.document["paths"]["/team/{team}"]["get"]["security"] == []


def test_shared_errors_are_told_once(description: Description) -> None:
    text = description.document["info"]["description"]
    for name, response in description.document["components"]["responses"].items():
        detail = response["content"]["application/json"]["example"]["detail"]
        assert f"- **{name.removeprefix('Error')}**: {detail}" in text


def test_examples_are_what_their_schemas_say(description: Description) -> None:
    for _, path, operation in operations(description):
        for status in operation["responses"]:
            response = description.response(operation, status)
            if "content" in response:
                content = response["content"]["application/json"]
                examples = content.get("examples") or {"": {"value": content["example"]}}
                for example in examples.values():
                    description.check_body(content["schema"], example["value"])
            else:
                assert status == "204" or path == "/account/{account}/award/{award}"
        if "requestBody" in operation:
            check_example(description, operation)
    for event in (*EventType, "ping"):
        check_example(description, description.document["webhooks"][event]["post"])


def check_example(description: Description, operation: Any) -> None:
    content = operation["requestBody"]["content"]["application/json"]
    assert content["example"]
    description.check_body(content["schema"], content["example"])


def test_all_bodies_are_given_bad_values(description: Description) -> None:
    paths = {(method, re.sub("/1?[0-9]$", "/{}", path)) for method, path, *_ in FIELDS}
    taking_a_body = {
        (method.upper(), re.sub("{.+}", "{}", path))
        for method, path, operation in operations(description)
        if "requestBody" in operation
    }
    elsewhere = {  # test_callbacks.py, test_discord.py, and the same view by another path
        ("PUT", "/callback/{}"),
        ("POST", "/auth/discord"),
        ("POST", "/acounts/new"),
    }
    assert paths == taking_a_body - elsewhere


RED = {"id": 1, "name": "Red", "created_at": 1.5, "member_count": 0, "awards": []}


@pytest.mark.parametrize(
    ("status", "body", "good"),
    [
        (200, RED, True),
        (418, RED, False),
        (200, RED | {"more": 1}, False),
        (200, {key: RED[key] for key in RED if key != "name"}, False),
        (200, RED | {"id": "1"}, False),
        (200, RED | {"awards": [{"id": 1}]}, False),
        (422, {"detail": "no list"}, False),
    ],
)
def test_the_check_of_all_responses(
    description: Description, status: int, body: Any, good: bool
) -> None:
    def check() -> None:
        Description(deepcopy(description.document)).check(
            "GET", "/team/1", status, json.dumps(body).encode()
        )

    if good:
        check()
    else:
        with pytest.raises(AssertionError):
            check()


@pytest.mark.parametrize(
    ("team", "good"), [(None, True), (RED, True), ({}, False), ({"name": "Red"}, False)]
)
def test_what_may_be_null_is_checked(description: Description, team: Any, good: bool) -> None:
    body = {"award": {"id": 1, "title": "T", "image_url": "http://x"}, "awardees": [], "team": team}
    schema = {"$ref": "#/components/schemas/AwardDetails"}
    if good:
        description.check_body(schema, body)
    else:
        with pytest.raises(AssertionError):
            description.check_body(schema, body)


def test_ids_of_accounts_are_described_as_text(description: Description) -> None:
    """Numbers are accepted, too, but JavaScript has rounded them by then."""
    schema = {"$ref": "#/components/schemas/NewAward"}
    body = {"title": "T", "image_url": "http://x", "team": 1, "accounts": ["80351110224678912"]}
    description.check_body(schema, body)
    for bad in ({"team": -1}, {"team": 1.5}, {"accounts": [5]}, {"accounts": ["one"]}):
        with pytest.raises(AssertionError):
            description.check_body(schema, body | bad)


def test_null_is_described_where_it_is_taken(description: Description) -> None:
    schema = {"$ref": "#/components/schemas/NewAccount"}
    needed = {"id": "5", "name": "Ann", "discriminator": "0"}
    optional = dict.fromkeys(("avatar_url", "team", "permissions"))
    description.check_body(schema, needed | optional)
    for name in needed:
        with pytest.raises(AssertionError):
            description.check_body(schema, needed | {name: None})


def test_credentials_that_are_not_always_needed(description: Description) -> None:
    edit = description.document["paths"]["/account/{account}"]["patch"]
    assert edit["security"] == [{"basic": []}, {}]
    assert "Needs credentials." not in edit["description"]
