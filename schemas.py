"""What goes over the wire: one class for each JSON object and each set of parameters."""

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import ValidationError

from database import MAX_ID
from fields import (
    MAX_PER_PAGE,
    REQUIRED,
    UNKNOWN_FIELD,
    Discriminator,
    EventName,
    Flags,
    Id,
    ListOf,
    Message,
    Name,
    Number,
    PathReference,
    Reference,
    Text,
    Timestamp,
    Url,
    length,
    searchable,
    secret,
)
from models import Account, Award, Team

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
