"""The one shape of errors: `detail`, a list of issues for status 422, a sentence otherwise."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from flask import Flask, current_app
from sqlalchemy.exc import DBAPIError, OperationalError
from werkzeug.exceptions import HTTPException, ServiceUnavailable, UnprocessableEntity
from werkzeug.wrappers import Response

from database import BusyError, first_line
from fields import MAX_ISSUES, UNKNOWN_FIELD, Message

Issue = dict[str, Any]

BUSY = "The database is busy. Try again."
UNUSABLE = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "UndefinedTable", "UndefinedColumn"}
DISK_FULL = "The server's disk is full, so nothing was changed. Tell its host."


class Issues(list[Issue]):
    """The first issues of a request, and the number of those left out."""

    left_out = 0

    def add(self, issues: Iterable[Issue], count: int) -> None:
        """Add the first of some issues, of which there are `count`."""
        before = len(self)
        self.extend(islice(issues, MAX_ISSUES))
        self.left_out += count - (len(self) - before)


class Invalid(UnprocessableEntity):
    """A request with something wrong: everything wrong, as a list of issues."""

    def __init__(self, *found: Issues) -> None:
        super().__init__()
        self.issues = list(chain(*found))
        count = len(self.issues) + sum(issues.left_out for issues in found)
        if count > MAX_ISSUES:
            *listed, last = self.issues[:MAX_ISSUES]
            more = Message(f"There are {count - len(listed)} more issues.", "too_many")
            self.issues = [*listed, issue(last["loc"][:1], more)]


class InsufficientStorage(HTTPException):
    """The disk, or the database's share of it, is full."""

    code = 507
    description = DISK_FULL


def issue(loc: list[str], message: Message) -> Issue:
    """Return one issue, with its place."""
    return {"loc": loc, "msg": str(message), "type": message.type}


def issues_of(loc: list[str], messages: Any) -> Iterator[Issue]:
    """Return marshmallow's nested messages as one list of issues."""
    if isinstance(messages, dict):
        for key, nested in messages.items():
            if not isinstance(nested, int):
                whole = key == "_schema" and nested != [UNKNOWN_FIELD]
                yield from issues_of(loc if whole else [*loc, str(key)], nested)
    else:
        for message in messages:
            yield issue(loc, message)


def count_of(messages: Any) -> int:
    """Return the number of issues in marshmallow's nested messages, including those left out."""
    if isinstance(messages, dict):
        return sum(map(count_of, messages.values()))
    return messages if isinstance(messages, int) else len(messages)


def init_app(app: Flask) -> None:
    """Give every error of the app the one shape."""
    app.register_error_handler(HTTPException, answer)
    app.register_error_handler(DBAPIError, _answer_database_error)
    app.register_error_handler(BusyError, _answer_busy_database)


def answer(error: HTTPException) -> Response:
    """Return the response to an error."""
    response = error.get_response()
    detail = error.issues if isinstance(error, Invalid) else error.description
    response.set_data(json.dumps({"detail": detail}))
    response.content_type = "application/json"
    return response


def _answer_busy_database(_error: Exception) -> Response:
    return answer(ServiceUnavailable(BUSY, retry_after=5))


def _answer_database_error(error: DBAPIError) -> Response:
    """Return the response to a fault of the disk or the database; any other is our own."""
    name = getattr(error.orig, "sqlite_errorname", type(error.orig).__name__)
    if name in {"SQLITE_FULL", "DiskFull"}:
        return answer(InsufficientStorage())
    if name.startswith("SQLITE_BUSY") or name == "LockNotAvailable":
        return _answer_busy_database(error)
    if isinstance(error, OperationalError) or name in UNUSABLE:
        current_app.logger.error("The database cannot be used: %s", first_line(error.orig))
        return answer(ServiceUnavailable("The database cannot be used. Tell the server's host."))
    cause: Any = error.orig
    if hasattr(cause, "diag"):  # PostgreSQL's details show whole rows
        error.args = cause.args = (cause.diag.message_primary,)
    raise error
