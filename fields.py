"""The marshmallow fields of this API, and the messages of their issues.

Each issue with a value carries a `Message`: a sentence for people and a short stable word for
programs (`missing`, `invalid`, `not_found`, `unknown_field`, `conflict`, `too_long`, ...).
"""

import base64
import re
from typing import Any, Self
from urllib.parse import urlsplit

import marshmallow as ma
from marshmallow import ValidationError, validate

from database import Base
from models import MAX_ID, Account, EventType, LogType
from permissions import ALL_PERMISSIONS

MAX_PER_PAGE = 1000
MAX_POINTS = 1000
MAX_ISSUES = 100
"""The maximum number of a request's issues that are listed."""
LEFT_OUT = "left out"
"""The key, in the messages about a list, of the number of messages left out."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and surrogates (halves of characters)."""
UNSEARCHABLE = re.compile(r"[\x00\ud800-\udfff]")
HOST = re.compile(r"[\w.:-]+")
SECRET = re.compile(r"[!-~]([ -~]*[!-~])?")
KEY_PREFIX = "whsec_"
DISCORD_ID = {"type": "string", "pattern": "^[0-9]{1,19}$"}
"""How account ids are described: only as strings, since JavaScript rounds such numbers."""


class Message(str):
    """An issue's sentence, with the word that names its kind to programs."""

    __slots__ = ("type",)

    type: str

    def __new__(cls, text: str, kind: str = "invalid") -> Self:
        """Make a message."""
        message = super().__new__(cls, text)
        message.type = kind
        return message

    def format(self, *args: object, **kwargs: object) -> "Message":
        """Fill in the sentence, as marshmallow does, and keep the word."""
        return Message(super().format(*args, **kwargs), self.type)


REQUIRED = Message("This field is required.", "missing")
UNKNOWN_FIELD = Message("This endpoint has no such field.", "unknown_field")


def not_found(name: str) -> Message:
    """Return the message for an id that no record has."""
    return Message(f"There is no such {name}.", "not_found")


class Number(ma.fields.Integer):
    """A whole number: a JSON int, or a string of ASCII digits where `digits` is true."""

    default_error_messages = {
        "required": REQUIRED,
        "invalid": Message("This must be a whole number from {min} to {max}."),
    }

    def __init__(self, least: int, most: int, *, digits: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.least, self.most, self.digits = least, most, digits

    def read(self, value: Any) -> int | None:
        """Return the number that a JSON value stands for, or None."""
        if self.digits and isinstance(value, str) and re.fullmatch("[0-9]{1,19}", value):
            value = int(value)
        if type(value) is int and self.least <= value <= self.most:
            return value
        return None

    def refuse(self) -> ValidationError:
        """Return the error for a value that does not stand for a number."""
        return self.make_error("invalid", min=self.least, max=self.most)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        number = self.read(value)
        if number is None:
            raise self.refuse()
        return number


class Id(Number):
    """An id, as an int or as a string of digits; `discord` says that it is an account's."""

    def __init__(self, least: int = 1, *, discord: bool = False, **kwargs: Any) -> None:
        metadata = (DISCORD_ID if discord else {}) | kwargs.pop("metadata", {})
        super().__init__(least, MAX_ID, digits=True, metadata=metadata, **kwargs)


class Reference(Id):
    """The id of a record that must exist.

    `model` is its model; if `none` is true, 0 stands for no record, and becomes None. The id is
    looked up after the request's shape is checked, together with all others (see `references.py`).
    """

    def __init__(self, model: type[Base], *, none: bool = False, **kwargs: Any) -> None:
        self.model = model
        self.model_name = model.__name__.lower()
        zero = {"description": f"0 stands for no {self.model_name}."} if none else {}
        metadata = zero | kwargs.pop("metadata", {})
        is_discord = model is Account
        super().__init__(0 if none else 1, discord=is_discord, metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return super()._deserialize(value, attr, data, **kwargs) or None


class PathReference(Reference):
    """An id in the path: one that is malformed counts as the id of no record."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return super()._deserialize(value, attr, data, **kwargs)
        except ValidationError:
            raise ValidationError(not_found(self.model_name)) from None


class ListOf(ma.fields.List[Any]):
    """A JSON list of ids.

    However many are bad, few have a message; None takes the place of each bad one.
    """

    inner: Number

    default_error_messages = {"required": REQUIRED, "invalid": Message("This must be a list.")}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        numbers = [self.inner.read(item) for item in value]
        bad = [index for index, number in enumerate(numbers) if number is None]
        if bad:
            messages: dict[Any, Any] = dict.fromkeys(bad[:MAX_ISSUES], self.inner.refuse().messages)
            messages[LEFT_OUT] = len(bad[MAX_ISSUES:])
            raise ValidationError(messages, valid_data=numbers)
        return numbers


class Text(ma.fields.String):
    """A JSON string."""

    default_error_messages = {"required": REQUIRED, "invalid": Message("This must be a string.")}


def length(most: int, least: int = 1) -> validate.Length:
    """Return a check of a text's length, in characters."""
    kind = "too_long" if least == 0 else "length"
    return validate.Length(
        least, most, error=Message(f"This must have {least} to {most} characters.", kind)
    )


def readable(text: str) -> None:
    """Refuse text that is blank or holds control characters or lone surrogates."""
    if CONTROL.search(text):
        raise ValidationError(Message("This must not contain control characters or surrogates."))
    if text.isspace():
        raise ValidationError(Message("This must not be blank.", "blank"))


def searchable(text: str) -> None:
    """Refuse text that no stored name can contain and that a database may reject."""
    if UNSEARCHABLE.search(text):
        raise ValidationError(Message("This must not contain NUL or surrogates."))


def web_address(url: str) -> None:
    """Refuse anything but an absolute http or https URL with a host."""
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme in {"http", "https"}
            and HOST.fullmatch(parts.hostname or "")
            and parts.port != 0
            and not re.search(r"\s", url)
        )
    except ValueError:  # a bad port, or a bad address in brackets
        good = False
    if not good:
        raise ValidationError(Message("This must be an absolute http or https URL."))


def signing_key(secret: str) -> bytes:
    """Return the key that a secret stands for, as Standard Webhooks specifies.

    Raises ValueError if it starts with `whsec_` and the rest is not base64, or empty.
    """
    if secret.startswith(KEY_PREFIX):
        key = base64.b64decode(secret.removeprefix(KEY_PREFIX), validate=True)
        if not key:
            raise ValueError("the key is empty")
        return key
    return secret.encode()


def usable(secret: str) -> None:
    """Refuse text that cannot be in a header, or looks like a signing key but is not one."""
    if not SECRET.fullmatch(secret):
        raise ValidationError(
            Message("This must be printable ASCII characters, with no space at either end.")
        )
    try:
        signing_key(secret)
    except ValueError:
        raise ValidationError(Message("`whsec_` must be followed by base64.")) from None


class Name(Text):
    """A name or title that people read."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=[length(255), readable], **kwargs)


class Url(Text):
    """An absolute http or https URL."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=[length(2047), readable, web_address], **kwargs)


class Secret(Text):
    """The secret that deliveries are sent and signed with."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=[length(2047), usable], **kwargs)


class Discriminator(Text):
    """Discord's four digits beside a name, as a string or an int; `0` where there are none."""

    default_error_messages = {"invalid": Message("This must be up to 4 digits.")}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"pattern": "^[0-9]{1,4}$"}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        digits = str(value) if type(value) in {int, str} else ""
        if not re.fullmatch("[0-9]{1,4}", digits):
            raise self.make_error("invalid")
        return digits if digits == "0" else digits.zfill(4)


class Flags(Number):
    """Permissions, as the sum of their bit flags."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(0, int(ALL_PERMISSIONS), **kwargs)


class EventName(ma.fields.Enum[EventType]):
    """A type of event."""

    default_error_messages = {
        "unknown": Message("There is no such type of event. The types are: {choices}.")
    }

    def __init__(self) -> None:
        super().__init__(EventType, by_value=True)


class LoggedType(Text):
    """A type of event, including those that are only in the log."""

    def __init__(self, **kwargs: Any) -> None:
        types = [*EventType, *LogType]
        unknown = Message(f"There is no such type of event. The types are: {', '.join(types)}.")
        super().__init__(validate=validate.OneOf(types, error=unknown), **kwargs)


class Timestamp(ma.fields.Float):
    """A time, in seconds since the UNIX epoch, with fraction."""
