"""The command line."""

from collections.abc import Callable

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from models import now
from permissions import ACCOUNT_PERMISSIONS
from tests.support.community import Community, refusal

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    """Run `flask ...` in the app."""
    return lambda *arguments: app.test_cli_runner().invoke(args=arguments)


def done(result: Result) -> str:
    """Return what a command printed that ended well."""
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def failed(result: Result, status: int = 1) -> str:
    """Return what a command complained of."""
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr
    return result.stderr


def credentials(printed: str) -> tuple[str, str]:
    """Read the username and password that a command printed, each on its own line."""
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


def test_a_limit_that_is_too_large(run: Run) -> None:
    failed(run("events", "list", "--limit", "9" * 20), 2)


def test_every_command_has_help(app: Flask) -> None:
    for group in app.cli.commands.values():
        if group.name in {"apps", "accounts", "sessions"}:
            for command in group.commands.values():  # type: ignore[attr-defined]
                assert command.help
                assert all(
                    option.help for option in command.params if option.param_type_name == "option"
                )
