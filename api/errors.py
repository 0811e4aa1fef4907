"""The one shape of errors: `detail`, a list of issues for status 422, a sentence otherwise."""

import json
from collections.abc import Iterator
from typing import Any

from flask import Flask, current_app
from sqlalchemy.exc import DBAPIError, OperationalError
from werkzeug.exceptions import HTTPException, ServiceUnavailable, UnprocessableEntity
from werkzeug.wrappers import Response

from database import BusyError
from fields import UNKNOWN_FIELD, Message

Issue = dict[str, Any]

MAX_ISSUES = 100
BUSY = "The database is busy. Try again."
UNUSABLE = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "UndefinedTable", "UndefinedColumn"}
DISK_FULL = "The server's disk is full, so nothing was changed. Tell its host."


class Invalid(UnprocessableEntity):
    """A request with something wrong in it: all of it, as a list of issues."""

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__()
        self.issues = issues
        if len(issues) > MAX_ISSUES:
            left_out = len(issues) - MAX_ISSUES + 1
            more = Message(f"There are {left_out} more issues.", "too_many")
            self.issues = [*issues[: MAX_ISSUES - 1], issue(issues[MAX_ISSUES]["loc"][:1], more)]


class InsufficientStorage(HTTPException):
    """The disk, or what the database may use of it, is full."""

    code = 507
    description = DISK_FULL


def issue(loc: list[str], message: Message) -> Issue:
    """Return one issue, with its place."""
    return {"loc": loc, "msg": str(message), "type": message.type}


def issues_of(loc: list[str], messages: Any) -> Iterator[Issue]:
    """Return marshmallow's nested messages as one list of issues."""
    if isinstance(messages, dict):
        for key, nested in messages.items():
            whole = key == "_schema" and nested != [UNKNOWN_FIELD]
            yield from issues_of(loc if whole else [*loc, str(key)], nested)
    else:
        for message in messages:
            yield issue(loc, message)


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
    """Name what is wrong with the disk or the database; anything else is our own fault."""
    name = getattr(error.orig, "sqlite_errorname", type(error.orig).__name__)
    if name in {"SQLITE_FULL", "DiskFull"}:
        return answer(InsufficientStorage())
    if name.startswith("SQLITE_BUSY") or name == "LockNotAvailable":
        return _answer_busy_database(error)
    if isinstance(error, OperationalError) or name in UNUSABLE:
        current_app.logger.error("The database cannot be used: %s", error.orig)
        return answer(ServiceUnavailable("The database cannot be used. Tell the server's host."))
    cause: Any = error.orig
    if hasattr(cause, "diag"):  # PostgreSQL's details show whole rows
        error.args = cause.args = (cause.diag.message_primary,)
    raise error
