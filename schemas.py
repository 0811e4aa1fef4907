"""Everything sent over the wire: one class for each JSON object and each set of parameters."""

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import ValidationError

from fields import (
    DISCORD_ID,
    MAX_PER_PAGE,
    MAX_POINTS,
    UNKNOWN_FIELD,
    Discriminator,
    EventName,
    Flags,
    Id,
    ListOf,
    LoggedType,
    Message,
    Name,
    Number,
    PathReference,
    Reference,
    Secret,
    Text,
    Timestamp,
    Url,
    length,
    searchable,
)
from models import MAX_ID, Account, Award, EventType, Team

# --- Objects that are sent ---


class Sent(ma.Schema):
    """The base of all objects that are sent: each attribute is present, and no other.

    Attributes have examples, from which the API's description builds its own.
    """

    class Meta:
        """The description says that there are no other attributes."""

        unknown = ma.RAISE

    def on_bind_field(self, field_name: str, field: ma.fields.Field[Any]) -> None:
        """Make the description say that an attribute is always present."""
        field.required = True


class AwardSchema(Sent):
    """An award."""

    id = ma.fields.Integer()
    title = ma.fields.String()
    image_url = ma.fields.String()


class TeamSchema(Sent):
    """A team, with the number of its members now and its awards by id."""

    id = ma.fields.Integer()
    name = ma.fields.String()
    created_at = Timestamp()
    member_count = ma.fields.Integer()
    awards = ma.fields.List(ma.fields.Nested(AwardSchema))


class AccountSchema(Sent):
    """An account, with its team (or null) and its own awards by id."""

    id = ma.fields.String(metadata=DISCORD_ID)
    name = ma.fields.String()
    discriminator = ma.fields.String()
    avatar_url = ma.fields.String(allow_none=True)
    team = ma.fields.Nested(TeamSchema, allow_none=True)
    permissions = ma.fields.Integer()
    created_at = Timestamp()
    awards = ma.fields.List(ma.fields.Nested(AwardSchema))


class AwardDetailsSchema(Sent):
    """An award, the accounts that have it, and its team (or null)."""

    award = ma.fields.Nested(AwardSchema)
    awardees = ma.fields.List(ma.fields.Nested(AccountSchema))
    team = ma.fields.Nested(TeamSchema, allow_none=True)


class AwardEntrySchema(Sent):
    """An award in a list, its team (or null), its points, and how many accounts have it.

    `created_at` is null for an award from before such times were kept.
    """

    award = ma.fields.Nested(AwardSchema)
    team = ma.fields.Nested(TeamSchema, allow_none=True)
    points = ma.fields.Integer()
    created_at = Timestamp(allow_none=True)
    holders = ma.fields.Integer()


class StandingSchema(Sent):
    """A team's rank, by the points of its awards, and how many these are."""

    rank = ma.fields.Integer()
    points = ma.fields.Integer()
    awards = ma.fields.Integer()
    team = ma.fields.Nested(TeamSchema)


class EventSchema(Sent):
    """Something that happened, by ids; `granted` and `revoked` are permissions."""

    id = ma.fields.Integer()
    type = ma.fields.String()
    created_at = Timestamp()
    author = ma.fields.String()
    account = ma.fields.String(allow_none=True, metadata=DISCORD_ID)
    team = ma.fields.Integer(allow_none=True)
    left_team = ma.fields.Integer(allow_none=True)
    award = ma.fields.Integer(allow_none=True)
    changed = ma.fields.List(ma.fields.String(), allow_none=True)
    granted = ma.fields.Integer()
    revoked = ma.fields.Integer()


class EventsSchema(Sent):
    """Events, oldest first, and the id to continue from."""

    events = ma.fields.List(ma.fields.Nested(EventSchema))
    last = ma.fields.Integer()


class SessionSchema(Sent):
    """The credentials of a session; the password is shown only once."""

    username = ma.fields.String()
    password = ma.fields.String()
    expires_at = Timestamp()


class AppSchema(Sent):
    """An app."""

    name = ma.fields.String()
    permissions = ma.fields.Integer()
    username = ma.fields.String()


class AppWithPasswordSchema(AppSchema):
    """An app; the password is shown only once."""

    password = ma.fields.String()


class CallbackSchema(Sent):
    """A registered callback; the secret is never shown."""

    id = ma.fields.Integer()
    event = ma.fields.String()
    url = ma.fields.String()


class CallbacksSchema(Sent):
    """The URLs of an app's callbacks, by type of event."""

    callbacks = ma.fields.Dict(
        keys=ma.fields.String(),
        values=ma.fields.String(),
    )


class PingSchema(Sent):
    """The result of a ping: the response's status, and the error (or null)."""

    status = ma.fields.Integer(allow_none=True)
    error = ma.fields.String(allow_none=True)
    seconds = ma.fields.Float()


class DeliverySchema(Sent):
    """A queued delivery, by its `webhook-id`, with the end of its own pause (or null)."""

    id = ma.fields.String()
    created_at = Timestamp()
    attempts = ma.fields.Integer()
    retry_at = Timestamp(allow_none=True)
    last_error = ma.fields.String(allow_none=True)


class DeliveriesSchema(Sent):
    """A callback's queue, since when it waits, and until when its receiver rests (or null).

    The first 100 deliveries are listed, in the order in which they will be sent.
    """

    waiting = ma.fields.Integer()
    since = Timestamp(allow_none=True)
    resting_until = Timestamp(allow_none=True)
    last_error = ma.fields.String(allow_none=True)
    deliveries = ma.fields.List(ma.fields.Nested(DeliverySchema))


class DeliveredSchema(Sent):
    """How many deliveries a receiver accepted just now, and how many are still queued for it."""

    delivered = ma.fields.Integer()
    waiting = ma.fields.Integer()


class SignupsSchema(Sent):
    """Whether new accounts can be created."""

    signups_open = ma.fields.Boolean()


class HealthSchema(Sent):
    """Confirmation that the server works."""

    status = ma.fields.String()


class IssueSchema(Sent):
    """One thing wrong with a request, and where."""

    loc = ma.fields.List(ma.fields.String())
    msg = ma.fields.String()
    type = ma.fields.String()


class InvalidSchema(Sent):
    """The body of a 422: everything wrong with the request."""

    detail = ma.fields.List(ma.fields.Nested(IssueSchema))


class ErrorSchema(Sent):
    """The body of any other error: a sentence to act on."""

    detail = ma.fields.String()


def page_of(schema: type[Sent]) -> type[ma.Schema]:
    """Return the schema of one page of a list."""
    counts = dict.fromkeys(("page", "per_page", "pages", "results"), ma.fields.Integer)
    name = schema.__name__.removesuffix("Schema")
    return Sent.from_dict(
        {key: count() for key, count in counts.items()}
        | {"data": ma.fields.List(ma.fields.Nested(schema))},
        name=f"{name}PageSchema",
    )


AccountPageSchema = page_of(AccountSchema)
TeamPageSchema = page_of(TeamSchema)
AwardPageSchema = page_of(AwardEntrySchema)
StandingsPageSchema = page_of(StandingSchema)


class PingBodySchema(Sent):
    """The body of a ping, a test of the receiver: the type of event it is registered for."""

    ping = ma.fields.String()


def event_body(event: EventType) -> type[ma.Schema]:
    """Return the schema of the body that receivers are sent about an event."""
    parts: dict[str, ma.fields.Field[Any]] = {
        "account": ma.fields.Nested(AccountSchema),
        "team": ma.fields.Nested(TeamSchema, allow_none=event.subject != "team"),
        "award": ma.fields.Nested(AwardSchema),
        "changed": ma.fields.List(ma.fields.String()),
    }
    name = event.title().replace("_", "")
    return Sent.from_dict({part: parts[part] for part in event.body}, name=f"{name}Schema")


# --- Parameters that are received ---


class Body(ma.Schema):
    """The base of all request bodies: null means not given, an unknown field is an issue."""

    error_messages = {
        "unknown": UNKNOWN_FIELD,
        "type": Message("The body must be a JSON object."),
    }

    def on_bind_field(self, field_name: str, field: ma.fields.Field[Any]) -> None:
        """Make the description say that null is accepted for what is not required."""
        field.allow_none = not field.required

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

    id = Id(discord=True, required=True)
    name = Name(required=True)
    discriminator = Discriminator(required=True)
    avatar_url = Url()
    team = Reference(Team, none=True)
    permissions = Flags(load_default=0)


class AccountChanges(Body):
    """Changes to an account; team 0 means no team."""

    name = Name()
    discriminator = Discriminator()
    avatar_url = Url()
    team = Reference(Team, none=True)
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

    name = Name(required=True)


class NewAward(Body):
    """A new award, the team it is for and the accounts that are given it."""

    title = Name(required=True)
    image_url = Url(required=True)
    team = Reference(Team, required=True)
    accounts = ListOf(Reference(Account), required=True)
    points = Number(0, MAX_POINTS, load_default=1)


class AwardChanges(Body):
    """Changes to an award."""

    title = Name()
    image_url = Url()
    team = Reference(Team)
    points = Number(0, MAX_POINTS)


class NewSession(Body):
    """The account to sign in."""

    account = Reference(Account, required=True)


class NewCallback(Body):
    """The URL to send the events of a type to, and the secret to send and sign them with."""

    url = Url(required=True)
    secret = Secret(required=True)


class DiscordLogin(Body):
    """The token that Discord issued for a member."""

    token = Text(required=True, validate=length(2047))


def says(description: str) -> dict[str, str]:
    """Return the metadata that describes a parameter so."""
    return {"description": description}


class PageQuery(ma.Schema):
    """Which page of a list, counted from 0, and how many records are on a page."""

    class Meta:
        """Parameters that an endpoint does not know are ignored."""

        unknown = ma.EXCLUDE

    page = Number(
        0, MAX_ID, digits=True, load_default=0, metadata=says("Which page, counted from 0.")
    )
    per_page = Number(
        1,
        MAX_PER_PAGE,
        digits=True,
        load_default=20,
        metadata=says("The number of records on a page."),
    )


class TeamQuery(PageQuery):
    """Which teams: those with `q` in their name, regardless of case."""

    q = Text(
        load_default="",
        validate=[length(255, 0), searchable],
        metadata=says("Only those with this in their name, regardless of case."),
    )


class AccountQuery(TeamQuery):
    """Which accounts: those with `q` in their name, regardless of case, in one team."""

    team = Reference(Team, metadata=says("Only the members of the team with this id."))


class AwardQuery(PageQuery):
    """Which awards: those with `q` in their title, of a team, held by an account."""

    q = Text(
        load_default="",
        validate=[length(255, 0), searchable],
        metadata=says("Only those with this in their title, regardless of case."),
    )
    team = Reference(Team, metadata=says("Only those of the team with this id."))
    account = Reference(Account, metadata=says("Only those that this account has."))


class EventQuery(ma.Schema):
    """Which events: those after an id, of a type, and about an account, team or award.

    These may have been deleted since.
    """

    class Meta:
        """Parameters that an endpoint does not know are ignored."""

        unknown = ma.EXCLUDE

    after = Number(
        0,
        MAX_ID,
        digits=True,
        load_default=0,
        metadata=says("Only events with an id greater than this: the previous `last`."),
    )
    type = LoggedType(metadata=says("Only events of this type."))
    account = Id(discord=True, metadata=says("Only events about this account."))
    team = Id(metadata=says("Only events about this team, or whatever joined or left it."))
    award = Id(metadata=says("Only events about this award."))
    per_page = Number(
        1,
        MAX_PER_PAGE,
        digits=True,
        load_default=100,
        metadata=says("The maximum number of events listed."),
    )


PATH: dict[str, ma.fields.Field[Any]] = {
    "account": PathReference(Account),
    "team": PathReference(Team),
    "award": PathReference(Award),
    "event": EventName(),
}
"""The parameters that a path can have."""
