"""`flask events`: the log on a terminal."""

import signal
import subprocess

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database import db, transaction
from models import Event, EventType, LogType
from permissions import APP_PERMISSIONS
from tests.support.community import Community
from tests.support.databases import Database
from tests.support.receiver import SECRET
from tests.support.server import BIN, ROOT, command, environment

FOLLOW = (f"{BIN}/flask", "events", "list", "--follow")

TABLE = """\
TIME                 EVENT                BY            ACCOUNT              TEAM  LEFT TEAM  AWARD  APP  CHANGED            GRANTED                            REVOKED
2001-09-09 01:46:41  app_create           command line                                               2                       manage_teams, manage_awards
2001-09-09 01:46:42  app_update           command line                                               2    name, permissions  manage_account_teams               manage_teams
2001-09-09 01:46:43  token_reset          command line                                               2
2001-09-09 01:46:44  callback_register    app 1                                                      1    team_create
2001-09-09 01:46:45  callback_delete      app 1                                                      1    team_create
2001-09-09 01:46:46  team_create          app 1                              1
2001-09-09 01:46:47  team_update          app 1                              1                            name
2001-09-09 01:46:48  account_create       app 1         10                                                                   manage_permissions, manage_awards
2001-09-09 01:46:49  account_team_update  app 1         10                   1
2001-09-09 01:46:50  award_create         app 1                              1                1
2001-09-09 01:46:51  award_give           app 1         10                   1                1
2001-09-09 01:46:52  award_update         app 1                              1                1           title, points
2001-09-09 01:46:53  account_team_update  app 1         10                         1
2001-09-09 01:46:54  account_update       app 1         10                                                name, permissions  manage_teams                       manage_permissions, manage_awards
2001-09-09 01:46:55  award_take           app 1         10                   1                1
2001-09-09 01:46:56  award_delete         app 1                              1                1
2001-09-09 01:46:57  team_delete          app 1                              1
2001-09-09 01:46:58  sessions_revoke      command line  10
2001-09-09 01:46:59  account_delete       app 1         10
2001-09-09 01:47:00  app_delete           command line                                               2
"""  # noqa: E501 - as wide as it is
"""One event of each type."""


def test_the_table(app: Flask, community: Community, client: FlaskClient) -> None:
    """Everything is in the log, by ids: deleted records leave no names there."""
    auth = community.bot(APP_PERMISSIONS)
    award = {"title": "First", "image_url": "http://x", "team": 1, "accounts": [10]}
    new = {"id": 10, "name": "Ann", "discriminator": 0, "team": 1, "permissions": 65}
    changes = {"name": "Anna", "team": 0, "grant_permissions": 8, "revoke_permissions": 65}
    for does in (
        "apps create site --grant manage_teams --grant manage_awards",
        "apps edit site --name page --grant manage_account_teams --revoke manage_teams",
        "apps reset-token page",
        ("PUT", "/callback/team_create", {"url": "http://x", "secret": SECRET}),
        ("DELETE", "/callback/team_create", None),
        ("POST", "/teams/new", {"name": "Red"}),
        ("PATCH", "/team/1", {"name": "Rot"}),
        ("POST", "/accounts/new", new),
        ("POST", "/awards/new", award),
        ("PATCH", "/award/1", {"points": 5, "title": "Best"}),
        ("PATCH", "/account/10", changes),
        ("DELETE", "/award/1", None),
        ("DELETE", "/team/1", None),
        ("POST", "/auth/create_session", {"account": 10}),
        "sessions revoke 10",
        ("DELETE", "/account/10", None),
        "apps delete page",
    ):
        if isinstance(does, str):
            assert app.test_cli_runner().invoke(args=does.split()).exit_code == 0
        else:
            method, path, body = does
            response = client.open(path, method=method, json=body, auth=auth)
            assert response.status_code < 300, response.text
    with app.app_context(), transaction(write=True):
        db.session.execute(db.update(Event).values(created_at=1e9 + Event.id))
        assert {*db.session.scalars(db.select(Event.type))} == {*EventType, *LogType}
    everything = str(community.dump())
    assert not any(name in everything for name in ("Ann", "Rot", "Best"))
    printed = app.test_cli_runner().invoke(args=["events", "list"])
    assert (printed.stdout, printed.stderr, printed.exit_code) == (TABLE, "", 0)


def test_what_is_listed(app: Flask, community: Community, client: FlaskClient) -> None:
    auth = community.bot(APP_PERMISSIONS)
    community.account(10)
    for name in ("Red", "Blue"):
        client.post("/teams/new", json={"name": name}, auth=auth)
    for team in (1, 2):
        client.patch("/account/10", json={"team": team}, auth=auth)
        client.put(f"/account/10/award/{community.award()}", auth=auth)

    def listed(*options: str) -> list[str]:
        result = app.test_cli_runner().invoke(args=["events", "list", *options])
        assert (result.exit_code, result.stderr) == (0, "")
        return [line.split()[2] for line in result.stdout.splitlines()[1:]]

    moved, given = "account_team_update", "award_give"
    assert listed() == [*2 * ["team_create"], moved, given, moved, given]
    assert listed("--limit", "3") == [given, moved, given]
    assert listed("--account", "10") == [moved, given, moved, given]
    assert listed("--account", "11") == []
    assert listed("--team", "1") == ["team_create", moved, moved]
    assert listed("--team", "2", "--type", moved) == [moved]
    assert listed("--award", "2") == [given]
    assert listed("--type", "team_create") == ["team_create"] * 2
    for options in (["--team", "x"], ["--type", "no_event"], ["--limit", "9" * 20]):
        assert app.test_cli_runner().invoke(args=["events", "list", *options]).exit_code == 2


@pytest.mark.parametrize("options", [[], ["--type", "app_create"]])
def test_following(database: Database, options: list[str]) -> None:
    """Each event becomes a line as soon as it happens, until Ctrl-C."""
    command(database, "apps", "create", "first")
    with subprocess.Popen(
        [*FOLLOW, *options],
        cwd=ROOT,
        env=environment(database),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        heading, first = process.stdout.readline(), process.stdout.readline()
        assert heading.split()[:3] == ["TIME", "EVENT", "BY"]
        lines = [first]
        for name in ("second", "third"):
            command(database, "apps", "reset-token", "first")
            command(database, "apps", "create", name)
            lines += [process.stdout.readline() for _ in range(1 if options else 2)]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    others = [] if options else ["token_reset"]
    expected = ["app_create", *2 * [*others, "app_create"]]
    assert [line.split()[2] for line in lines] == expected
    assert {line.index("app_create") for line in lines if "app_create" in line} == {
        heading.index("EVENT")
    }
    assert process.returncode == 0


def test_following_ends_when_nobody_reads(database: Database) -> None:
    """It does not wait for the next event to find out."""
    ended = subprocess.run(
        ["bash", "-c", f"{' '.join(FOLLOW)} | head -n 1"],  # noqa: S607 - whichever bash is installed
        cwd=ROOT,
        env=environment(database),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout.startswith("TIME")
    assert ended.stderr == ""
