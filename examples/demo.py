"""Serve a throwaway community to try out: `make demo`."""

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
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
"""Awards for more than a place: their titles, pictures and points."""
NAMES = (
    ("Ada Ben Chloe Dev Erin Femi Grace Hugo Isla Jack Kira Liam", "Ash Brook Clay Dale Fox Hill"),
    ("Amélie Björn Chloé Jürgen Maëlle Renée Søren Zoë", "Lefèvre Müller Núñez Østergård Weiß"),
    ("Błażej Łucja Świętosława Zdzisław", "Jabłoński Wiśniewska Żółkiewski"),
    ("Αλέξανδρος Δήμητρα Ειρήνη Θεόδωρος", "Παπαδόπουλος Οικονόμου"),
    ("陽翔 結衣 蓮 葵", "佐藤 高橋 渡辺"),
)
"""First and last names of several languages."""

HANDLES = ("quiet brave lucky pixel turbo cosmic sleepy", "otter falcon badger comet noodle wizard")

BIN = Path(sys.executable).parent

TEXT = """
{accounts} accounts in {teams} teams, with {awards} awards: all gone once you stop this with Ctrl-C.

{url}/          the standings, and from there all other pages
{url}/teams/1   a team
{url}/numbers   the community in numbers
{url}/docs      the API, to read and try out

curl -u {app[0]}:{app[1]} {url}/auth/me
curl '{url}/accounts/search?q=an&per_page=5'

{captain}, who manages the team {team}:
Username: {session[username]}
Password: {session[password]}

An app that may do everything (for "Authorize" on that page, or for a bot):
Username: {app[0]}
Password: {app[1]}
"""


def main() -> None:
    """Make a database in a folder of its own, fill it, serve it, and say what it contains."""
    url = Settings.load().local_url
    with TemporaryDirectory(prefix="laurels-demo-") as folder:
        database = f"sqlite:///{folder}/laurels.sqlite3"
        environment = os.environ | {"DATABASE_URL": database, "COMMUNITY_NAME": "Autumn Games"}
        subprocess.run([BIN / "flask", "db", "upgrade"], env=environment, check=True)
        facts = fill(database, url)
        server = subprocess.Popen([BIN / "gunicorn"], env=environment)
        with suppress(KeyboardInterrupt):  # which stops the server, too
            if answers(server, url, facts["app"]):
                print(TEXT.format(url=url, **facts), flush=True)
        while server.poll() is None:
            with suppress(KeyboardInterrupt):
                server.wait()
    sys.exit(server.returncode)


def answers(server: subprocess.Popen[bytes], url: str, auth: tuple[str, str]) -> bool:
    """Return whether this server answers, once it does or has ended."""
    while server.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(f"{url}/auth/me", auth=auth, timeout=5).ok:
                return True
        time.sleep(0.1)
    return False


def fill(database: str, url: str) -> dict[str, Any]:
    """Make a community through the API; return its contents."""
    app = create_app(Settings(database_url=database, log_level="ERROR"))
    with app.app_context(), transaction(write=True):
        bot = App(name="demo", permissions=int(APP_PERMISSIONS))
        token = bot.renew_token()
        db.session.add(bot)
        db.session.flush()
        auth = (bot.username, token)
    client = app.test_client()
    chance = random.Random(1)  # noqa: S311 - the same community each time

    def create(path: str, **body: Any) -> Any:
        return client.post(path, json=body, auth=auth).get_json()

    def picture(name: str) -> str:
        return f"{url}/pages/badges/{name}.svg"

    teams = [create("/teams/new", name=name)["id"] for name in TEAMS]
    members: dict[int, list[str]] = {team: [] for team in (0, *teams)}
    for number in range(ACCOUNTS):
        team = chance.choice(list(members)) if number else teams[0]
        account = create(
            "/accounts/new",
            id=chance.randrange(10**17, 10**18),
            name=new_name(chance),
            discriminator=0,
            avatar_url=picture(chance.choice([*GAMES.values()])) if number % 4 == 0 else None,
            team=team,
            permissions=0 if number else int(Permission.MANAGE_OWN_TEAM),
        )
        members[team].append(account["id"])
    for number in range(AWARDS):
        team = chance.choices(teams, [9, 8, 8, 6, 6, 5, 4, 3])[0]
        title, badge, points = chance.choice(THANKS)
        if number % 6:
            game, badge = chance.choice([*GAMES.items()])
            place, points = chance.choice(PRIZES)
            title = f"{game}, {place}"
        create(
            "/awards/new",
            title=title,
            image_url=picture(badge),
            points=points,
            team=team,
            accounts=chance.sample(members[team], chance.randint(1, 5)),
        )
    with app.app_context(), transaction(write=True):
        spread(chance)
    captain = client.get(f"/account/{members[teams[0]][0]}").get_json()
    return {
        "accounts": ACCOUNTS,
        "teams": len(TEAMS),
        "awards": AWARDS,
        "app": auth,
        "captain": captain["name"],
        "team": TEAMS[0],
        "session": create("/auth/create_session", account=captain["id"]),
    }


def new_name(chance: random.Random) -> str:
    """Return a name for a member: a person's name, or a handle."""
    if chance.random() < 0.5:
        return " ".join(chance.choice(part.split()) for part in chance.choice(NAMES))
    return "_".join(chance.choice(part.split()) for part in HANDLES) + str(chance.randrange(100))


def spread(chance: random.Random) -> None:
    """Change the times as if the community had grown over weeks, up to now."""
    end, length = now(), WEEKS * 7 * 86400
    accounts = db.session.scalars(select(Account).order_by(Account.id)).all()
    for account in accounts:
        account.created_at = end - length * chance.random() ** 0.6
    awards = db.session.scalars(select(Award).order_by(Award.id)).all()
    times = sorted(end - length * chance.random() * 0.95 for _ in awards)
    for award, moment in zip(awards, times, strict=True):
        award.created_at = moment
        db.session.execute(
            update(Awardee).where(Awardee.award_id == award.id).values(given_at=moment)
        )


if __name__ == "__main__":
    main()
