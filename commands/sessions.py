"""`flask sessions`: the sign-ins of accounts."""

from sqlalchemy import delete

from commands.groups import Commands
from database import db
from models import Session, now

sessions = Commands("sessions", help="Manage the sign-ins of accounts.")


@sessions.text_command("prune")
def prune() -> str:
    """Delete the sessions that have expired."""
    expired = delete(Session).where(Session.expires_at <= now()).returning(Session.id)
    return f"Deleted {len(db.session.scalars(expired).all())} expired sessions."
