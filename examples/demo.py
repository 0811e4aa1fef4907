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
from sqlalchemy import select, update

from app import create_app
from config import Settings
from database import db, transaction
from models import Account, App, Award, Awardee, now
from permissions import APP_PERMISSIONS, Permission

ACCOUNTS, AWARDS, WEEKS = 300, 140, 9
TEAMS = (
    "Crimson Foxes",
    "Night Herons",
    "Paper Lanterns",
    "Quiet Thunder",
    "Moss & Stone",
    "Salt Merchants",
    "Copper Owls",
    "The Understudies",
)
GAMES = {
    "Chess": "chess",
    "Archery": "archery",
    "Rowing": "rowing",
    "Quiz": "quiz",
    "Karaoke": "karaoke",
    "Speedrun": "speedrun",
    "Go": "stones",
    "Relay": "relay",
    "Treasure hunt": "treasure",
}
PRIZES = (("1st place", 20), ("2nd place", 10), ("3rd place", 5))
THANKS = (
    ("Helper of the week", "helper", 5),
    ("Best costume", "art", 15),
    ("Grand prize", "crown", 50),
)
"""Awards that are for more than a place: their titles, pictures and points."""
AVATAR = "https://cdn.discordapp.com/embed/avatars/{}.png"
LOCALES = ["en_GB", "de_DE", "fr_FR", "pl_PL", "el_GR", "ja_JP"]
BIN = Path(sys.executable).parent

TEXT = """
{accounts} accounts in {teams} teams, with {awards} awards: all gone once you stop this with Ctrl-C.

{url}/          the standings, and the community's other pages
{url}/teams/1   a team
{url}/numbers   the community in numbers
{url}/docs      the API, to read and try out

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
        url = f"http://{settings.host}:{settings.port}"
        environment = os.environ | {"DATABASE_URL": database, "COMMUNITY_NAME": "Autumn Games"}
        subprocess.run([BIN / "flask", "db", "upgrade"], env=environment, check=True)
        print(TEXT.format(url=url, **fill(database, url)), flush=True)
        server = subprocess.Popen([BIN / "gunicorn"], env=environment)
        while server.poll() is None:
            with suppress(KeyboardInterrupt):  # which stops the server, too
                server.wait()


def fill(database: str, url: str) -> dict[str, Any]:
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
            avatar_url=AVATAR.format(number % 6) if number % 4 == 0 else None,
        )
        for number in range(ACCOUNTS)
    ]
    for number in range(AWARDS):
        team = chance.choices(teams, [9, 8, 8, 6, 6, 5, 4, 3])[0]
        own = [
            member["id"] for member in members if member["team"] and member["team"]["id"] == team
        ]
        title, picture, points = chance.choice(THANKS)
        if number % 6:
            (game, picture), (place, points) = (
                chance.choice([*GAMES.items()]),
                chance.choice(PRIZES),
            )
            title = f"{game}, {place}"
        create(
            "/awards/new",
            title=title,
            image_url=f"{url}/pages/badges/{picture}.svg",
            points=points,
            team=team,
            accounts=chance.sample(own, chance.randint(1, 5)),
        )
    with app.app_context(), transaction(write=True):
        spread(chance)
    return {
        "accounts": ACCOUNTS,
        "teams": len(TEAMS),
        "awards": AWARDS,
        "app": auth,
        "captain": members[0]["name"],
        "team": TEAMS[0],
        "session": create("/auth/create_session", account=members[0]["id"]),
    }


def spread(chance: random.Random) -> None:
    """Let the community have grown over weeks, up to now."""
    end, length = now(), WEEKS * 7 * 86400
    accounts = db.session.scalars(select(Account).order_by(Account.id)).all()
    for account in accounts:
        account.created_at = end - length * chance.random() ** 0.6
    awards = db.session.scalars(select(Award).order_by(Award.id)).all()
    times = sorted(end - length * chance.random() * 0.95 for _ in awards)
    for award, time in zip(awards, times, strict=True):
        award.created_at = time
        db.session.execute(
            update(Awardee).where(Awardee.award_id == award.id).values(given_at=time)
        )


if __name__ == "__main__":
    main()
