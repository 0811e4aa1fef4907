"""`flask accounts`: changes to accounts that only the host may make."""

import click

from callbacks.events import account_change, record_account_update
from commands.groups import Commands
from database import db
from models import MAX_ID, Account
from permissions import ACCOUNT_PERMISSIONS

accounts = Commands("accounts", help="Manage accounts from outside the API.")


@accounts.text_command("superuser")
@click.argument("account_id", metavar="ID", type=click.IntRange(1, MAX_ID))
def superuser(account_id: int) -> str:
    """Give the account ID, a Discord id, every permission that an account can have."""
    account = db.session.get(Account, account_id)
    if account is None:
        raise click.ClickException(f"There is no account with the id {account_id}.")
    before = vars(account).copy()
    account.permissions = int(ACCOUNT_PERMISSIONS)
    db.session.flush()
    record_account_update(account_id, account_change(before, vars(account)))
    return f"{account.name} now has all permissions that an account can have."
