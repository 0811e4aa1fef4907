"""Serve a throwaway community to try the server out with: `make demo`."""

import os
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from faker import Faker

from app import create_app
from config import Settings
from database import db, transaction
from models import App
from permissions import APP_PERMISSIONS, Permission

ACCOUNTS, AWARDS = 300, 40
TEAMS = ("Red", "Blue", "Green", "Gold", "Violet", "Silver", "Coral", "Olive")
GAMES = (
    "Chess",
    "Archery",
    "Rowing",
    "Quiz",
    "Karaoke",
    "Speedrun",
    "Go",
    "Relay",
    "Treasure hunt",
)
LOCALES = ["en_GB", "de_DE", "fr_FR", "pl_PL", "el_GR", "ja_JP"]
BIN = Path(sys.executable).parent

TEXT = """
{accounts} accounts in {teams} teams, with {awards} awards: all gone once you stop this with Ctrl-C.

{url}/      what this server is
{url}/docs  the API, to read and try out

An app that may do everything (for "Authorize" on that page, or for a bot):
Username: {app[0]}
Password: {app[1]}

{captain}, who manages the team {team}:
Username: {session[username]}
Password: {session[password]}

curl -u {app[0]}:{app[1]} {url}/auth/me
curl '{url}/accounts/search?q=an&per_page=5'
"""


def main() -> None:
    """Make a database in a folder of its own, fill it, say what is there, and serve it."""
    settings = Settings.load()
    with TemporaryDirectory(prefix="laurels-demo-") as folder:
        database = f"sqlite:///{folder}/laurels.sqlite3"
        environment = os.environ | {"DATABASE_URL": database}
        subprocess.run([BIN / "flask", "db", "upgrade"], env=environment, check=True)
        print(
            TEXT.format(url=f"http://{settings.host}:{settings.port}", **fill(database)), flush=True
        )
        server = subprocess.Popen([BIN / "gunicorn"], env=environment)
        while server.poll() is None:
            with suppress(KeyboardInterrupt):  # which stops the server, too
                server.wait()


def fill(database: str) -> dict[str, Any]:
    """Make a community, by the API; say what is in it."""
    app = create_app(Settings(database_url=database, log_level="ERROR"))
    with app.app_context(), transaction(write=True):
        bot = App(name="demo", permissions=int(APP_PERMISSIONS))
        token = bot.renew_token()
        db.session.add(bot)
        db.session.flush()
        auth = (bot.username, token)
    client = app.test_client()

    def create(path: str, **body: Any) -> Any:
        return client.post(path, json=body, auth=auth).get_json()

    chance, faker = random.Random(1), Faker(LOCALES)  # noqa: S311 - the same community each time
    faker.seed_instance(1)
    teams = [create("/teams/new", name=name)["id"] for name in TEAMS]
    members = [
        create(
            "/accounts/new",
            id=chance.randrange(10**17, 10**18),
            name=faker.user_name() if number % 3 else faker.name(),
            discriminator=0,
            team=chance.choice([0, *teams]) if number else teams[0],
            permissions=0 if number else int(Permission.MANAGE_OWN_TEAM),
        )
        for number in range(ACCOUNTS)
    ]
    for number in range(AWARDS):
        team = chance.choice(teams)
        own = [
            member["id"] for member in members if member["team"] and member["team"]["id"] == team
        ]
        create(
            "/awards/new",
            title=f"{chance.choice(GAMES)}, {chance.choice(['1st', '2nd', '3rd'])} place",
            image_url=f"https://example.com/awards/{number + 1}.png",
            team=team,
            accounts=chance.sample(own, 3),
        )
    return {
        "accounts": ACCOUNTS,
        "teams": len(TEAMS),
        "awards": AWARDS,
        "app": auth,
        "captain": members[0]["name"],
        "team": TEAMS[0],
        "session": create("/auth/create_session", account=members[0]["id"]),
    }


if __name__ == "__main__":
    main()
