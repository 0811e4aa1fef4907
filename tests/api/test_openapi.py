"""The API's description of itself: complete, true, and with examples."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import validate

from tests.api.test_bad_input import FIELDS
from tests.support.description import Description

WITHOUT_CREDENTIALS = {("post", "/auth/discord")}


def operations(description: Description) -> Iterator[tuple[str, str, Any]]:
    """Go through what is described: method, path, and what is said of it."""
    for path, methods in description.document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield method, path, operation


def test_it_is_openapi(description: Description) -> None:
    validate(description.document)
    assert description.document["components"]["securitySchemes"] == {
        "basic": {"type": "http", "scheme": "basic"}
    }


def test_it_has_every_endpoint(app: Flask, description: Description) -> None:
    served = {
        (method.lower(), re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith(("pages.", "docs.", "openapi"))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in operations(description)} == served


def test_it_says_what_an_endpoint_needs(description: Description) -> None:
    for method, path, operation in operations(description):
        assert operation["summary"], (method, path)
        if method != "get" and (method, path) not in WITHOUT_CREDENTIALS:
            assert operation.get("security", [])[:1] == [{"basic": []}], (method, path)
            assert re.search(r"\bneeds? ", operation["description"], re.IGNORECASE)
        assert ("401" in operation["responses"]) is (
            "security" in operation or (method, path) in WITHOUT_CREDENTIALS
        )


def test_examples_are_what_their_schemas_say(description: Description) -> None:
    for _, path, operation in operations(description):
        for status, response in operation["responses"].items():
            if "content" in response:
                content = response["content"]["application/json"]
                examples = content.get("examples") or {"": {"value": content["example"]}}
                for example in examples.values():
                    description.check_body(content["schema"], example["value"])
            else:
                assert status == "204" or path == "/account/{account}/award/{award}"
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            assert content["example"], path
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


def test_ids_are_numbers_or_text(description: Description) -> None:
    schema = {"$ref": "#/components/schemas/NewAward"}
    body = {"title": "T", "image_url": "http://x"}
    for team, accounts in ((1, [5]), ("1", ["80351110224678912"])):
        description.check_body(schema, body | {"team": team, "accounts": accounts})
    for bad in (-1, "one", 1.5):
        with pytest.raises(AssertionError):
            description.check_body(schema, body | {"team": bad, "accounts": []})


def test_credentials_that_are_not_always_needed(description: Description) -> None:
    edit = description.document["paths"]["/account/{account}"]["patch"]
    assert edit["security"] == [{"basic": []}, {}]
    assert "Needs credentials." not in edit["description"]
