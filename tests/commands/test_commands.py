"""The command line."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from database import db, transaction
from models import Session, now
from permissions import ACCOUNT_PERMISSIONS
from tests.support.community import Community, refusal

Run = Callable[..., Result]
MORNING = datetime(2026, 1, 31, 7, 5, 3, tzinfo=UTC).timestamp()
EVENING = datetime(2100, 1, 31, 19, 5, 3, tzinfo=UTC).timestamp()


@pytest.fixture
def run(app: Flask) -> Run:
    """Run `flask ...` in the app."""
    return lambda *arguments: app.test_cli_runner().invoke(args=arguments)


def done(result: Result) -> str:
    """Return the output of a command that succeeds."""
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def failed(result: Result, status: int = 1) -> str:
    """Return the errors of a command that fails."""
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr
    return result.stderr


def credentials(printed: str) -> tuple[str, str]:
    """Return the username and password that a command printed, each on its own line."""
    lines = printed.splitlines()
    username = next(line for line in lines if line.startswith("Username: "))
    password = next(line for line in lines if line.startswith("Password: "))
    return username.removeprefix("Username: "), password.removeprefix("Password: ")


def test_create(run: Run, client: FlaskClient) -> None:
    auth = credentials(
        done(run("apps", "create", "My bot", "--grant", "manage_teams", "--grant", "manage_awards"))
    )
    assert auth[0] == "A1"
    me = client.get("/auth/me", auth=auth).get_json()
    assert me == {"name": "My bot", "permissions": 8 | 64, "username": "A1"}
    all_of_them = credentials(done(run("apps", "create", "admin", "--all")))
    assert client.get("/auth/me", auth=all_of_them).get_json()["permissions"] == 127 - 32
    none = credentials(done(run("apps", "create", "none")))
    assert client.get("/auth/me", auth=none).get_json()["permissions"] == 0


def test_bad_names_and_permissions(run: Run, community: Community) -> None:
    done(run("apps", "create", "bot"))
    before = community.dump()
    for name in ("", " ", "123", "٣", "a\nb", "x" * 256):
        failed(run("apps", "create", name), 2)
        failed(run("apps", "edit", "bot", "--name", name), 2)
    failed(run("apps", "create", "other", "--grant", "manage_own_team"), 2)
    failed(run("apps", "create", "other", "--grant", "everything"), 2)
    failed(run("apps", "edit", "bot", "--grant", "manage_own_team"), 2)
    both = ("--grant", "manage_teams", "--revoke", "manage_teams")
    failed(run("apps", "edit", "bot", *both), 2)
    assert "already" in failed(run("apps", "create", "bot"))
    assert community.dump() == before


def test_list_and_view(run: Run) -> None:
    assert done(run("apps", "list")).split() == ["ID", "NAME", "PERMISSIONS"]
    _, token = credentials(done(run("apps", "create", "bot", "--grant", "manage_teams")))
    listed = done(run("apps", "list"))
    assert listed.splitlines()[1].split() == ["1", "bot", "manage_teams"]
    for name in ("1", "bot"):
        shown = done(run("apps", "view", name))
        assert "Name: bot\n" in shown
        assert "Permissions: manage_teams\n" in shown
        assert token not in shown + listed


def test_edit(run: Run, client: FlaskClient) -> None:
    auth = credentials(done(run("apps", "create", "bot", "--grant", "manage_teams")))
    done(run("apps", "create", "other"))
    changes = ("--name", "Bot 2", "--grant", "manage_awards", "--revoke", "manage_teams")
    done(run("apps", "edit", "1", *changes))
    me = {"name": "Bot 2", "permissions": 64, "username": "A1"}
    assert client.get("/auth/me", auth=auth).get_json() == me
    done(run("apps", "edit", "Bot 2", "--name", "Bot 2"))
    assert "already" in failed(run("apps", "edit", "Bot 2", "--name", "other"))


def test_reset_and_delete(run: Run, client: FlaskClient) -> None:
    old = credentials(done(run("apps", "create", "bot")))
    new = credentials(done(run("apps", "reset-token", "bot")))
    assert refusal(client.get("/auth/me", auth=old)) == 401
    assert client.get("/auth/me", auth=new).status_code == 200
    done(run("apps", "delete", "1"))
    assert refusal(client.get("/auth/me", auth=new)) == 401
    for command in ("view", "edit", "reset-token", "delete"):
        for name in ("bot", "1", "9" * 30):
            assert "no app" in failed(run("apps", command, name))


def test_superuser(run: Run, community: Community, client: FlaskClient) -> None:
    community.account(10)
    done(run("accounts", "superuser", "10"))
    assert client.get("/account/10").get_json()["permissions"] == ACCOUNT_PERMISSIONS == 127 - 16
    assert "no account" in failed(run("accounts", "superuser", "11"))
    for bad in ("0", "x", str(2**63)):
        failed(run("accounts", "superuser", bad), 2)


def test_prune(run: Run, community: Community, client: FlaskClient) -> None:
    live = community.user(10)
    community.session(10, expires_at=now() - 86400)
    community.session(10, expires_at=now() - 1)
    assert done(run("sessions", "prune")) == "Deleted 2 expired sessions.\n"
    assert client.get("/auth/me", auth=live).status_code == 200
    assert len(community.dump()["sessions"]) == 1


def test_list_sessions(run: Run, community: Community) -> None:
    """Those that somebody can still use, without their tokens."""
    community.account(20, name="Ann B", created_at=MORNING)
    community.account(10, name="Bob")
    with community.app.app_context(), transaction(write=True):
        db.session.add_all(
            Session(account_id=account, token_digest=b"", created_at=MORNING, expires_at=until)
            for account, until in ((20, EVENING), (10, EVENING), (20, now() - 1))
        )
    heading = "ID  ACCOUNT  NAME   CREATED           EXPIRES\n"
    ann = "1   20       Ann B  2026-01-31 07:05  2100-01-31 19:05\n"
    bob = "2   10       Bob    2026-01-31 07:05  2100-01-31 19:05\n"
    assert done(run("sessions", "list")) == heading + ann + bob
    assert done(run("sessions", "list", "--account", "20")) == heading + ann
    assert len(done(run("sessions", "list", "--account", "30")).splitlines()) == 1
    failed(run("sessions", "list", "--account", "x"), 2)


def test_revoke_sessions(run: Run, community: Community, client: FlaskClient) -> None:
    """All of an account's own, including one that a thief has reset."""
    stolen, other = community.user(10), community.user(20)
    community.session(10)
    renewed = client.post("/auth/reset_token", auth=stolen).get_json()
    thief = (renewed["username"], renewed["password"])
    assert client.get("/auth/me", auth=thief).status_code == 200
    assert done(run("sessions", "revoke", "10")) == "Revoked 2 sessions of user 10.\n"
    assert refusal(client.get("/auth/me", auth=thief)) == 401
    assert refusal(client.post("/auth/reset_token", auth=thief)) == 401
    assert client.get("/auth/me", auth=other).status_code == 200
    assert done(run("sessions", "revoke", "10")) == "Revoked 0 sessions of user 10.\n"
    assert failed(run("sessions", "revoke", "30")) == "Error: There is no account with the id 30.\n"
    failed(run("sessions", "revoke", "x"), 2)


def test_every_command_has_help(app: Flask) -> None:
    for group in app.cli.commands.values():
        if group.name in {"apps", "accounts", "sessions"}:
            for command in group.commands.values():  # type: ignore[attr-defined]
                assert command.help
                assert all(
                    option.help for option in command.params if option.param_type_name == "option"
                )
