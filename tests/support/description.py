"""Every response in the test suite, checked against the API's own description of it."""

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from openapi_schema_validator import OAS31Validator


class Description:
    """The contents of `/openapi.json`."""

    expects_faults = False

    def __init__(self, document: Any) -> None:
        self.document = document
        paths = sorted(document["paths"].items(), key=lambda path: "{" in path[0])
        self.paths = [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), of) for path, of in paths]
        self.validator: Callable[[str], OAS31Validator] = cache(self._validator)

    def _validator(self, schema: str) -> OAS31Validator:
        return OAS31Validator(json.loads(schema) | {"components": self.document["components"]})

    def check(self, method: str, path: str, status: int, body: bytes) -> None:
        """Fail if a response has a status, or a body, that the description does not have."""
        operations: Any = next((of for one, of in self.paths if one.fullmatch(path)), {})
        operation = operations.get(method.lower())
        if operation is None or (status == 500 and self.expects_faults):
            return
        response = self.response(operation, str(status))
        assert response, f"{method} {path}: status {status} is not described"
        if "content" in response:
            assert body, f"{method} {path}: an empty body where one is described"
            self.check_body(response["content"]["application/json"]["schema"], json.loads(body))
        else:
            assert body == b"", f"{method} {path}: a body is not described"

    def response(self, operation: Any, status: str) -> Any:
        """Return the description of a response, from there or from those that endpoints share."""
        response = operation["responses"].get(status)
        if response and "$ref" in response:
            return self.document["components"]["responses"][response["$ref"].split("/")[-1]]
        return response

    def check_delivery(self, event: str, body: Any) -> None:
        """Fail if a receiver was sent anything but what the description says."""
        request = self.document["webhooks"][event]["post"]["requestBody"]
        self.check_body(request["content"]["application/json"]["schema"], body)

    def check_body(self, schema: Any, body: Any) -> None:
        """Fail if a body does not fit a schema of the description."""
        errors = self.validator(json.dumps(schema)).iter_errors(body)
        assert [error.message for error in errors] == [], body
