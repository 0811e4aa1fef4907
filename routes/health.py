"""Whether the server works."""

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import ServiceUnavailable

from api.endpoints import Blueprint
from database import connection
from models import App
from schemas import HealthSchema

_READ = select(App.id).limit(1)

blp = Blueprint("health", __name__, description="Whether the server works")


@blp.route("/health")
@blp.response(200, HealthSchema)
@blp.error(503, "The database does not answer.")
def view_health() -> dict[str, str]:
    """Check that the database answers."""
    try:
        connection().execute(_READ)
    except SQLAlchemyError:
        raise ServiceUnavailable("The database does not answer.") from None
    return {"status": "ok"}
