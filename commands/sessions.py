"""`flask sessions`: the sign-ins of accounts."""

import click
from sqlalchemy import delete, select

from callbacks.events import record
from commands.groups import Commands, table
from database import db
from models import MAX_ID, Account, LogType, Session, now, utc

sessions = Commands("sessions", help="Manage the sign-ins of accounts.")

ID = click.IntRange(1, MAX_ID)


@sessions.text_command("list")
@click.option("--account", type=ID, metavar="ID", help="Only the sessions of this account.")
def list_sessions(account: int | None) -> str:
    """List the sessions that have not expired, with times in UTC."""
    statement = (
        select(Session, Account.name)
        .join(Account, Account.id == Session.account_id)
        .where(Session.expires_at > now())
        .order_by(Session.id)
    )
    if account is not None:
        statement = statement.where(Session.account_id == account)
    return table(
        ("ID", "ACCOUNT", "NAME", "CREATED", "EXPIRES"),
        *(
            (
                session.id,
                session.account_id,
                name,
                _moment(session.created_at),
                _moment(session.expires_at),
            )
            for session, name in db.session.execute(statement)
        ),
    )


@sessions.text_command("revoke")
@click.argument("account_id", metavar="ACCOUNT", type=ID)
def revoke(account_id: int) -> str:
    """Delete all sessions of ACCOUNT, a Discord id. The member has to sign in again."""
    account = db.session.get(Account, account_id)
    if account is None:
        raise click.ClickException(f"There is no account with the id {account_id}.")
    revoked = delete(Session).where(Session.account_id == account_id).returning(Session.id)
    number = len(db.session.scalars(revoked).all())
    if number:
        record(LogType.SESSIONS_REVOKE, [account_id])
    return f"Revoked {number} sessions of {account.name}."


@sessions.text_command("prune")
def prune() -> str:
    """Delete the sessions that have expired."""
    expired = delete(Session).where(Session.expires_at <= now()).returning(Session.id)
    return f"Deleted {len(db.session.scalars(expired).all())} expired sessions."


def _moment(moment: float) -> str:
    return f"{utc(moment):%Y-%m-%d %H:%M}"
