"""Callbacks: where an app wants to be told of events."""

from typing import Any

from sqlalchemy import select, update
from werkzeug.exceptions import NotFound

from api import Blueprint
from authentication import principal
from database import db, now
from models import Callback, Delivery, EventType
from permissions import Action
from schemas import CallbackSchema, CallbacksSchema, ErrorSchema, NewCallback

blp = Blueprint("callbacks", __name__, description="Where an app wants to be told of events")


@blp.route("/callback/<event>", methods=["PUT"])
@blp.arguments(NewCallback)
@blp.response(200, CallbackSchema)
@blp.requires(Action.MANAGE_CALLBACKS)
def put_callback(event: EventType, body: dict[str, Any]) -> Callback:
    """Register where to send the events of a type, in place of what was registered before.

    A callback that is registered again keeps its id and what waits for it, which goes to the new
    URL with the next event.
    """
    callback = _callback(event)
    if callback is None:
        callback = Callback(app_id=principal().credential.id, event=event.value)
        db.session.add(callback)
    callback.url, callback.secret = body["url"], body["secret"]
    callback.registered_at, callback.resting_until, callback.failures = now(), None, 0
    db.session.flush()
    waiting = update(Delivery).where(Delivery.callback_id == callback.id)
    db.session.execute(waiting.values(retry_at=None))
    return callback


@blp.route("/callback/<event>")
@blp.response(200, CallbackSchema)
@blp.alt_response(404, schema=ErrorSchema, description="No callback is registered for this event")
@blp.requires(Action.MANAGE_CALLBACKS)
def view_callback(event: EventType) -> Callback:
    """View the callback that is registered for a type of event."""
    return _registered(event)


@blp.route("/callback/<event>", methods=["DELETE"])
@blp.response(204)
@blp.alt_response(404, schema=ErrorSchema, description="No callback is registered for this event")
@blp.requires(Action.MANAGE_CALLBACKS)
def delete_callback(event: EventType) -> None:
    """Delete the callback for a type of event, and what waits for it."""
    db.session.delete(_registered(event))


@blp.route("/callbacks")
@blp.response(200, CallbacksSchema)
@blp.requires(Action.MANAGE_CALLBACKS)
def list_callbacks() -> dict[str, Any]:
    """List the URLs of the app's callbacks, by type of event."""
    rows = db.session.execute(
        select(Callback.event, Callback.url)
        .where(Callback.app_id == principal().credential.id)
        .order_by(Callback.event)
    )
    return {"callbacks": {row.event: row.url for row in rows}}


def _callback(event: EventType) -> Callback | None:
    return db.session.scalar(
        select(Callback).where(
            Callback.app_id == principal().credential.id, Callback.event == event.value
        )
    )


def _registered(event: EventType) -> Callback:
    callback = _callback(event)
    if callback is None:
        raise NotFound(f"This app has no callback for {event.value}.")
    return callback
