"""The server's health."""

from sqlalchemy import select

from api.endpoints import Blueprint
from database import Statement
from models import App
from schemas import HealthSchema

_READ = Statement(select(App.id).limit(1))

blp = Blueprint("health", __name__, "The server's health")


@blp.get("/health", returns={200: HealthSchema})
def view_health() -> dict[str, str]:
    """Check that the database responds."""
    _READ.value()
    return {"status": "ok"}
