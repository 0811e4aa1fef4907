"""Callbacks: where an app wants to be told of events."""

from typing import Any

from sqlalchemy import update
from werkzeug.exceptions import NotFound

import queries
from api.endpoints import Blueprint
from authentication import principal
from database import db, now
from models import Callback, Delivery, EventType
from permissions import Action
from queries import Record
from schemas import CallbackSchema, CallbacksSchema, NewCallback

blp = Blueprint("callbacks", __name__, description="Where an app wants to be told of events")


@blp.route("/callback/<event>", methods=["PUT"])
@blp.arguments(NewCallback)
@blp.response(200, CallbackSchema)
@blp.requires(Action.MANAGE_CALLBACKS)
def put_callback(event: EventType, body: dict[str, Any]) -> Record:
    """Register where to send the events of a type, in place of what was registered before.

    A callback that is registered again keeps its id and what waits for it, which goes to the new
    URL with the next event.
    """
    registered = queries.callback(principal().app_id, event)
    if registered is None:
        callback = Callback(app_id=principal().app_id, event=event.value)
        db.session.add(callback)
    else:
        callback = db.session.get_one(Callback, registered["id"])
    callback.url, callback.secret = body["url"], body["secret"]
    callback.registered_at, callback.resting_until = now(), None
    callback.failures, callback.last_error = 0, None
    db.session.flush()
    waiting = update(Delivery).where(Delivery.callback_id == callback.id)
    db.session.execute(waiting.values(retry_at=None))
    return _registered(event)


@blp.route("/callback/<event>")
@blp.response(200, CallbackSchema)
@blp.error(404, "This app has no callback for team_create.")
@blp.requires(Action.MANAGE_CALLBACKS)
def view_callback(event: EventType) -> Record:
    """View the callback that is registered for a type of event."""
    return _registered(event)


@blp.route("/callback/<event>", methods=["DELETE"])
@blp.response(204)
@blp.error(404, "This app has no callback for team_create.")
@blp.requires(Action.MANAGE_CALLBACKS)
def delete_callback(event: EventType) -> None:
    """Delete the callback for a type of event, and what waits for it."""
    db.session.delete(db.session.get_one(Callback, _registered(event)["id"]))


@blp.route("/callbacks")
@blp.response(200, CallbacksSchema)
@blp.requires(Action.MANAGE_CALLBACKS)
def list_callbacks() -> dict[str, Any]:
    """List the URLs of the app's callbacks, by type of event."""
    return {"callbacks": queries.callbacks(principal().app_id)}


def _registered(event: EventType) -> Record:
    callback = queries.callback(principal().app_id, event)
    if callback is None:
        raise NotFound(f"This app has no callback for {event.value}.")
    return callback
