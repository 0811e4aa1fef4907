"""What goes over the wire: one class for each JSON object and each set of parameters.

Each issue with a value carries a `Message`: a sentence for people and a short stable word for
programs (`missing`, `invalid`, `not_found`, `unknown_field`, `conflict`, `too_long`, ...).
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from urllib.parse import urlsplit

import marshmallow as ma
from marshmallow import ValidationError, validate

from database import MAX_ID, Base
from models import Account, Award, EventType, Team
from permissions import ALL_PERMISSIONS
from signing import signing_key

MAX_PER_PAGE = 1000
UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates."""
UNSEARCHABLE = re.compile(r"[\x00\ud800-\udfff]")
HOST = re.compile(r"[\w.:-]+")
SECRET = re.compile(r"[!-~]([ -~]*[!-~])?")


class Message(str):
    """An issue in words, with the machine word that names its kind."""

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
    """Say that there is no record with an id."""
    return Message(f"There is no such {name}.", "not_found")


# --- Values ---


class Number(ma.fields.Integer):
    """A whole number: a JSON int, or a string of ASCII digits where `digits` is true."""

    default_error_messages = {
        "required": REQUIRED,
        "invalid": Message("This must be a whole number from {min} to {max}."),
    }

    def __init__(self, least: int, most: int, *, digits: bool = False, **kwargs: Any) -> None:
        bounds = {"minimum": least, "maximum": most}
        super().__init__(metadata=bounds | kwargs.pop("metadata", {}), **kwargs)
        self.least, self.most, self.digits = least, most, digits

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if self.digits and isinstance(value, str) and re.fullmatch("[0-9]{1,19}", value):
            value = int(value)
        if type(value) is not int or not self.least <= value <= self.most:
            error = self.make_error("invalid", min=self.least, max=self.most)
            raise ValidationError(error.messages, valid_data=[])  # keeps the place in a list
        return value


class Id(Number):
    """An id, as an int or as a string of digits."""

    def __init__(self, least: int = 1, **kwargs: Any) -> None:
        either = [
            {"type": "integer", "minimum": least, "maximum": MAX_ID},
            {"type": "string", "pattern": "^[0-9]{1,19}$"},
        ]
        metadata = {"anyOf": either} | kwargs.pop("metadata", {})
        super().__init__(least, MAX_ID, digits=True, metadata=metadata, **kwargs)


class Reference(Id):
    """The id of a record that must exist.

    `model` says which; where `none` is true, 0 stands for no record. The id is looked up after the
    request's shape was checked, together with all others (see `api.py`).
    """

    def __init__(self, model: type[Base], *, none: bool = False, **kwargs: Any) -> None:
        super().__init__(0 if none else 1, **kwargs)
        self.model = model
        self.model_name = model.__name__.lower()


class PathReference(Reference):
    """An id in the path: what is not an id at all is the id of nothing."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        try:
            return super()._deserialize(value, attr, data, **kwargs)
        except ValidationError:
            raise ValidationError(not_found(self.model_name)) from None


class ListOf(ma.fields.List[Any]):
    """A JSON list."""

    default_error_messages = {"required": REQUIRED, "invalid": Message("This must be a list.")}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list):  # a null in a list is as invalid as anything else, in its place
            value = [False if item is None else item for item in value]
        return super()._deserialize(value, attr, data, **kwargs)


class Text(ma.fields.String):
    """A JSON string."""

    default_error_messages = {"required": REQUIRED, "invalid": Message("This must be a string.")}


def length(most: int, least: int = 1) -> validate.Length:
    """Bound the length of a text, in characters."""
    kind = "too_long" if least == 0 else "length"
    return validate.Length(
        least, most, error=Message(f"This must have {least} to {most} characters.", kind)
    )


def readable(text: str) -> None:
    """Refuse text that is blank or holds control characters or lone surrogates."""
    if UNREADABLE.search(text):
        raise ValidationError(Message("This must not contain control characters or surrogates."))
    if text.isspace():
        raise ValidationError(Message("This must not be blank.", "blank"))


def searchable(text: str) -> None:
    """Refuse text that no stored name can contain and that a database may stumble over."""
    if UNSEARCHABLE.search(text):
        raise ValidationError(Message("This must not contain NUL or surrogates."))


def web_address(url: str) -> None:
    """Refuse what is not an absolute http or https URL with a host."""
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme in {"http", "https"}
            and HOST.fullmatch(parts.hostname or "")
            and parts.port != 0
            and not re.search(r"\s", url)
        )
    except ValueError:  # a port that is none, an address in brackets that is none
        good = False
    if not good:
        raise ValidationError(Message("This must be an absolute http or https URL."))


def secret(text: str) -> None:
    """Refuse what cannot stand in a header, or looks like a signing key but is none."""
    if not SECRET.fullmatch(text):
        raise ValidationError(
            Message("This must be printable ASCII characters, with no space at either end.")
        )
    try:
        signing_key(text)
    except ValueError:
        raise ValidationError(Message("After `whsec_` there must be base64.")) from None


class Name(Text):
    """A name or title that people read."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=[length(255), readable], **kwargs)


class Url(Text):
    """An absolute http or https URL."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=[length(2047), readable, web_address], **kwargs)


class Discriminator(Text):
    """Discord's four digits beside a name, as a string or an int; `0` where there are none."""

    default_error_messages = {"invalid": Message("This must be up to 4 digits.")}

    def __init__(self, **kwargs: Any) -> None:
        either = [
            {"type": "string", "pattern": "^[0-9]{1,4}$"},
            {"type": "integer", "minimum": 0, "maximum": 9999},
        ]
        super().__init__(metadata={"anyOf": either} | kwargs.pop("metadata", {}), **kwargs)

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
        "unknown": Message("There is no such type of event. There are: {choices}.")
    }

    def __init__(self) -> None:
        super().__init__(EventType, by_value=True)


class Timestamp(ma.fields.Float):
    """A moment, in seconds since the UNIX epoch, with fraction."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> float | None:
        return value.timestamp() if isinstance(value, datetime) else None


# --- Objects that are sent ---


class Sent(ma.Schema):
    """The base of all objects that are sent: each attribute is there, and no other is.

    Attributes have examples, of which the API's description makes its own.
    """

    class Meta:
        """The description says that there are no other attributes."""

        unknown = ma.RAISE

    def on_bind_field(self, field_name: str, field: ma.fields.Field[Any]) -> None:
        """Let the description say that an attribute is always there."""
        field.required = True


class AwardSchema(Sent):
    """An award."""

    id = ma.fields.Integer(metadata={"example": 7})
    title = ma.fields.String(metadata={"example": "First place"})
    image_url = ma.fields.String(metadata={"example": "https://example.com/first.png"})


class TeamSchema(Sent):
    """A team, with the number of its members now and its awards by id."""

    id = ma.fields.Integer(metadata={"example": 1})
    name = ma.fields.String(metadata={"example": "Red"})
    created_at = Timestamp(metadata={"example": 1767225600.5})
    member_count = ma.fields.Integer(metadata={"example": 12})
    awards = ma.fields.List(ma.fields.Nested(AwardSchema))


class AccountSchema(Sent):
    """An account, with its team (or null) and its own awards by id."""

    id = ma.fields.String(metadata={"example": "80351110224678912"})
    name = ma.fields.String(metadata={"example": "Ann"})
    discriminator = ma.fields.String(metadata={"example": "0"})
    avatar_url = ma.fields.String(
        allow_none=True, metadata={"example": "https://example.com/ann.png"}
    )
    team = ma.fields.Nested(TeamSchema, allow_none=True)
    permissions = ma.fields.Integer(metadata={"example": 32})
    created_at = Timestamp(metadata={"example": 1767225600.5})
    awards = ma.fields.List(ma.fields.Nested(AwardSchema))


class AwardDetailsSchema(Sent):
    """An award, the accounts that have it, and its team (or null)."""

    award = ma.fields.Nested(AwardSchema)
    awardees = ma.fields.List(ma.fields.Nested(AccountSchema))
    team = ma.fields.Nested(TeamSchema, allow_none=True)


class SessionSchema(Sent):
    """The credentials of a session; the password is shown this once."""

    username = ma.fields.String(metadata={"example": "S5"})
    password = ma.fields.String(metadata={"example": "y2N0...43 characters...Vw"})
    expires_at = Timestamp(metadata={"example": 1769817600.5})


class AppSchema(Sent):
    """An app."""

    name = ma.fields.String(metadata={"example": "my-bot"})
    permissions = ma.fields.Integer(metadata={"example": 95})
    username = ma.fields.String(metadata={"example": "A1"})


class AppWithPasswordSchema(AppSchema):
    """An app; the password is shown this once."""

    password = ma.fields.String(metadata={"example": "y2N0...43 characters...Vw"})


class CallbackSchema(Sent):
    """A registered callback; the secret is never shown."""

    id = ma.fields.Integer(metadata={"example": 3})
    event = ma.fields.String(metadata={"example": "team_create"})
    url = ma.fields.String(metadata={"example": "https://bot.example/events"})


class CallbacksSchema(Sent):
    """The URLs of an app's callbacks, by type of event."""

    callbacks = ma.fields.Dict(
        keys=ma.fields.String(),
        values=ma.fields.String(),
        metadata={"example": {"team_create": "https://bot.example/events"}},
    )


class SignupsSchema(Sent):
    """Whether new accounts can be made."""

    signups_open = ma.fields.Boolean(metadata={"example": True})


class HealthSchema(Sent):
    """That the server works."""

    status = ma.fields.String(metadata={"example": "ok"})


class IssueSchema(Sent):
    """One thing that is wrong with a request, and where."""

    loc = ma.fields.List(ma.fields.String(metadata={"example": "body"}))
    msg = ma.fields.String(metadata={"example": str(REQUIRED)})
    type = ma.fields.String(metadata={"example": REQUIRED.type})


class InvalidSchema(Sent):
    """What status 422 answers: everything that is wrong with the request."""

    detail = ma.fields.List(ma.fields.Nested(IssueSchema))


class ErrorSchema(Sent):
    """What any other error answers: a sentence to act on."""

    detail = ma.fields.String(metadata={"example": "This needs an app."})


def page_of(schema: type[Sent]) -> type[ma.Schema]:
    """Make the schema of one page of a list."""
    counts = {"page": 0, "per_page": 20, "pages": 1, "results": 1}
    name = schema.__name__.removesuffix("Schema")
    return Sent.from_dict(
        {key: ma.fields.Integer(metadata={"example": value}) for key, value in counts.items()}
        | {"data": ma.fields.List(ma.fields.Nested(schema))},
        name=f"{name}PageSchema",
    )


AccountPageSchema = page_of(AccountSchema)
TeamPageSchema = page_of(TeamSchema)


def example_of(schema: ma.Schema) -> dict[str, Any]:
    """Make an example of what a schema describes, of its attributes' examples."""
    return {name: _example(field) for name, field in schema.fields.items()}


def example_of_body(schema: ma.Schema) -> dict[str, Any]:
    """Make an example of a request body, of those fields that have one."""
    fields = schema.load_fields.items()
    return {name: _example(field) for name, field in fields if "example" in field.metadata}


def _example(field: ma.fields.Field[Any]) -> Any:
    if isinstance(field, ma.fields.Nested):
        return example_of(field.schema)
    if isinstance(field, ma.fields.List):
        return [_example(field.inner)]
    return field.metadata["example"]


# --- Parameters that are received ---


class Body(ma.Schema):
    """The base of all request bodies: null means not given, an unknown field is an issue."""

    error_messages = {
        "unknown": UNKNOWN_FIELD,
        "type": Message("The body must be a JSON object."),
    }

    @ma.pre_load
    def _leave_out_nulls(self, data: Any, **_: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {
            name: value
            for name, value in data.items()
            if value is not None or name not in self.load_fields
        }


class NewAccount(Body):
    """A new account."""

    id = Id(required=True, metadata={"example": "80351110224678912"})
    name = Name(required=True, metadata={"example": "Ann"})
    discriminator = Discriminator(required=True, metadata={"example": "0"})
    avatar_url = Url(metadata={"example": "https://example.com/ann.png"})
    team = Reference(Team, none=True, metadata={"example": 1})
    permissions = Flags(load_default=0, metadata={"example": 0})


class AccountChanges(Body):
    """Changes to an account; team 0 stands for no team."""

    name = Name(metadata={"example": "Ann"})
    discriminator = Discriminator(metadata={"example": "0"})
    avatar_url = Url(metadata={"example": "https://example.com/ann.png"})
    team = Reference(Team, none=True, metadata={"example": 1})
    grant_permissions = Flags()
    revoke_permissions = Flags()
    discord_token = Text(validate=length(2047))

    @ma.validates_schema(skip_on_field_errors=False)
    def _grant_or_revoke(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("grant_permissions", 0) & data.get("revoke_permissions", 0):
            raise ValidationError(
                Message("A permission cannot be granted and revoked at once.", "conflict"),
                "revoke_permissions",
            )


class TeamBody(Body):
    """A team's name."""

    name = Name(required=True, metadata={"example": "Red"})


class NewAward(Body):
    """A new award, the team it is for and the accounts that are given it."""

    title = Name(required=True, metadata={"example": "First place"})
    image_url = Url(required=True, metadata={"example": "https://example.com/first.png"})
    team = Reference(Team, required=True, metadata={"example": 1})
    accounts = ListOf(
        Reference(Account, metadata={"example": "80351110224678912"}),
        required=True,
        metadata={"example": ["80351110224678912"]},
    )


class AwardChanges(Body):
    """Changes to an award."""

    title = Name(metadata={"example": "First place"})
    image_url = Url(metadata={"example": "https://example.com/first.png"})
    team = Reference(Team, metadata={"example": 1})


class NewSession(Body):
    """The account to sign in."""

    account = Reference(Account, required=True, metadata={"example": "80351110224678912"})


class NewCallback(Body):
    """Where to send the events of a type, and the secret to send and sign them with."""

    url = Url(required=True, metadata={"example": "https://bot.example/events"})
    secret = Text(
        required=True,
        validate=[length(2047), secret],
        metadata={"example": "whsec_MfKQ9r8GKYqrTwjU"},
    )


class DiscordLogin(Body):
    """The token that Discord gave for a member."""

    token = Text(
        required=True,
        validate=length(2047),
        metadata={"example": "6qrZcUqja7812RVdnEKjpzOL4CvHBFG"},
    )


class PageQuery(ma.Schema):
    """Which page of a list, counted from 0, and how many records are on a page."""

    class Meta:
        """Parameters that an endpoint does not know are ignored."""

        unknown = ma.EXCLUDE

    page = Number(0, MAX_ID, digits=True, load_default=0)
    per_page = Number(1, MAX_PER_PAGE, digits=True, load_default=20)


class TeamQuery(PageQuery):
    """Which teams: those with `q` in their name, without regard to case."""

    q = Text(load_default="", validate=[length(255, 0), searchable])


class AccountQuery(TeamQuery):
    """Which accounts: those with `q` in their name, without regard to case, in one team."""

    team = Reference(Team)


PATH: dict[str, ma.fields.Field[Any]] = {
    "account": PathReference(Account),
    "team": PathReference(Team),
    "award": PathReference(Award),
    "event": EventName(),
}
"""The parameters that a path can have."""
