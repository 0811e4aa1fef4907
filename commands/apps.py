"""`flask apps`: the programs that may use the API in their own name."""

import click
from marshmallow import ValidationError
from sqlalchemy import inspect, select

from callbacks.events import record
from commands.groups import Commands, table
from database import db
from fields import Name
from models import MAX_ID, App, LogType, utc
from permissions import APP_PERMISSIONS, Permission, labels_of

apps = Commands("apps", help="Manage the apps (bots, websites) that may use the API.")

PERMISSION = click.Choice([permission.label for permission in APP_PERMISSIONS])


def _permissions(labels: tuple[str, ...]) -> Permission:
    return Permission(sum(Permission[label.upper()] for label in set(labels)))


def _checked_name(_context: object, _parameter: object, name: str | None) -> str | None:
    """Return a new name for an app if it is good: names identify apps, as ids do."""
    if name is not None:
        try:
            Name().deserialize(name)
        except ValidationError as error:
            raise click.BadParameter(" ".join(error.messages)) from None
        if name.isdigit():
            raise click.BadParameter("A name must not be all digits: that would look like an id.")
    return name


def _refuse_taken(name: str, app_id: int | None = None) -> None:
    taken = db.session.scalar(select(App.id).where(App.name == name))
    if taken is not None and taken != app_id:
        raise click.ClickException(f"An app called {name} already exists.")


def _find(app: str) -> App:
    by_id = app.isascii() and app.isdigit()
    condition = App.id == min(int(app[:20]), MAX_ID) if by_id else App.name == app
    found = db.session.scalar(select(App).where(condition))
    if found is None:
        raise click.ClickException(f"There is no app {app}. `.venv/bin/flask apps list` shows all.")
    return found


def _describe(app: App, token: str | None = None) -> str:
    labels = labels_of(Permission(app.permissions)) or "none"
    lines = [
        f"Id: {app.id}",
        f"Name: {app.name}",
        f"Created: {utc(app.created_at):%Y-%m-%d %H:%M} UTC",
        f"Permissions: {labels}",
        f"Username: {app.username}",
    ]
    if token:
        lines += [f"Password: {token}", "Keep the password: it cannot be shown again."]
    return "\n".join(lines)


@apps.text_command("create")
@click.argument("name", callback=_checked_name)
@click.option("--grant", multiple=True, type=PERMISSION, help="A permission; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="All permissions that an app can have.")
def create(name: str, grant: tuple[str, ...], everything: bool) -> str:
    """Create an app called NAME. Its username and password are shown only once."""
    _refuse_taken(name)
    app = App(name=name, permissions=int(APP_PERMISSIONS if everything else _permissions(grant)))
    token = app.renew_token()
    db.session.add(app)
    db.session.flush()
    record(LogType.APP_CREATE, [app.id], granted=app.permissions)
    return _describe(app, token)


@apps.text_command("list")
def list_apps() -> str:
    """List all apps."""
    return table(
        ("ID", "NAME", "PERMISSIONS"),
        *(
            (app.id, app.name, labels_of(Permission(app.permissions)))
            for app in db.session.scalars(select(App).order_by(App.id))
        ),
    )


@apps.text_command("view")
@click.argument("app")
def view(app: str) -> str:
    """Show APP, an id or a name."""
    return _describe(_find(app))


@apps.text_command("edit")
@click.argument("app")
@click.option("--name", callback=_checked_name, help="A new name.")
@click.option("--grant", multiple=True, type=PERMISSION, help="A permission; may be repeated.")
@click.option("--revoke", multiple=True, type=PERMISSION, help="A permission; may be repeated.")
def edit(app: str, name: str | None, grant: tuple[str, ...], revoke: tuple[str, ...]) -> str:
    """Rename APP, an id or a name, or change its permissions."""
    if both := set(grant) & set(revoke):
        raise click.UsageError(f"{', '.join(sorted(both))}: grant it or revoke it, not both.")
    found = _find(app)
    if name is not None:
        _refuse_taken(name, found.id)
        found.name = name
    held = Permission(found.permissions)
    holds = (held | _permissions(grant)) & ~_permissions(revoke)
    found.permissions = int(holds)
    if changed := [column.key for column in inspect(found).attrs if column.history.has_changes()]:
        granted, revoked = int(holds & ~held), int(held & ~holds)
        record(LogType.APP_UPDATE, [found.id], changed=changed, granted=granted, revoked=revoked)
    return _describe(found)


@apps.text_command("reset-token")
@click.argument("app")
def reset_token(app: str) -> str:
    """Give APP, an id or a name, a new password; the old one stops working at once."""
    found = _find(app)
    record(LogType.TOKEN_RESET, [found.id])
    return _describe(found, found.renew_token())


@apps.text_command("delete")
@click.argument("app")
def delete(app: str) -> str:
    """Delete APP, an id or a name, with its password and callbacks."""
    found = _find(app)
    db.session.delete(found)
    record(LogType.APP_DELETE, [found.id])
    return f"Deleted the app {found.name}."
