"""Serve a throwaway community to try the server out with: `make demo`."""

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import requests
from flask import Flask, Response

from app import create_app
from config import Settings
from database import db, transaction
from models import App
from permissions import APP_PERMISSIONS, Permission

ACCOUNTS, AWARDS = 300, 40
TEAMS = {
    "Red": "firebrick",
    "Blue": "royalblue",
    "Green": "seagreen",
    "Gold": "goldenrod",
    "Violet": "darkviolet",
    "Silver": "slategray",
    "Coral": "coral",
    "Olive": "olive",
}
"""The teams and their colours."""

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
PLACES = {"1st": "gold", "2nd": "silver", "3rd": "peru"}
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
PICTURE = """
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">
  <circle cx="32" cy="32" r="32" fill="{colour}"/>
  <g font-family="sans-serif" font-size="26" fill="white" text-anchor="middle">
    <text x="32" y="41">{text}</text>
  </g>
</svg>
"""

TEXT = """
{accounts} accounts in {teams} teams, with {awards} awards: all gone once you stop this with Ctrl-C.

{url}/      what this server is
{url}/docs  the API, to read and try out

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
    """Make a database in a folder of its own, fill it, serve it, and say what is there."""
    url = Settings.load().local_url
    with TemporaryDirectory(prefix="laurels-demo-") as folder:
        database = f"sqlite:///{folder}/laurels.sqlite3"
        environment = os.environ | {"DATABASE_URL": database}
        subprocess.run([BIN / "flask", "db", "upgrade"], env=environment, check=True)
        facts = fill(database, url)
        server = subprocess.Popen(
            [BIN / "gunicorn", "examples.demo:create_demo_app()"], env=environment
        )
        with suppress(KeyboardInterrupt):  # which stops the server, too
            if answers(server, url, facts["app"]):
                print(TEXT.format(url=url, **facts), flush=True)
        while server.poll() is None:
            with suppress(KeyboardInterrupt):
                server.wait()
    sys.exit(server.returncode)


def answers(server: subprocess.Popen[bytes], url: str, auth: tuple[str, str]) -> bool:
    """Return whether it is this server that answers, once it does or has ended."""
    while server.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(f"{url}/auth/me", auth=auth, timeout=5).ok:
                return True
        time.sleep(0.1)
    return False


def create_demo_app() -> Flask:
    """Return the app, which also serves the pictures of the demo."""
    app = create_app()
    app.add_url_rule("/demo/<colour>/<text>.svg", view_func=picture)
    return app


def picture(colour: str, text: str) -> Response:
    """Return a disc with a text."""
    drawn = PICTURE.format(colour=escape(colour), text=escape(text))
    return Response(drawn, mimetype="image/svg+xml", headers={"Cache-Control": "max-age=3600"})


def fill(database: str, url: str) -> dict[str, Any]:
    """Make a community, by the API; return what is in it."""
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

    def drawing(colour: str, text: str) -> str:
        return f"{url}/demo/{colour}/{quote(text)}.svg"

    teams = {name: create("/teams/new", name=name)["id"] for name in TEAMS}
    members: dict[str, list[Any]] = {name: [] for name in ("", *TEAMS)}
    for number in range(ACCOUNTS):
        team = chance.choice(list(members)) if number else next(iter(TEAMS))
        name = new_name(chance)
        account = create(
            "/accounts/new",
            id=chance.randrange(10**17, 10**18),
            name=name,
            discriminator=0,
            avatar_url=drawing(TEAMS.get(team, "gray"), name[0].upper()),
            team=teams.get(team, 0),
            permissions=0 if number else int(Permission.MANAGE_OWN_TEAM),
        )
        members[team].append(account)
    for _ in range(AWARDS):
        team, place = chance.choice(list(TEAMS)), chance.choice(list(PLACES))
        create(
            "/awards/new",
            title=f"{chance.choice(GAMES)}, {place} place",
            image_url=drawing(PLACES[place], place),
            team=teams[team],
            accounts=[account["id"] for account in chance.sample(members[team], 3)],
        )
    team, (captain, *_) = next(iter(TEAMS)), members[next(iter(TEAMS))]
    return {
        "accounts": ACCOUNTS,
        "teams": len(TEAMS),
        "awards": AWARDS,
        "app": auth,
        "captain": captain["name"],
        "team": team,
        "session": create("/auth/create_session", account=captain["id"]),
    }


def new_name(chance: random.Random) -> str:
    """Return what a member may be called: by a name, or by a handle."""
    if chance.random() < 0.5:
        return " ".join(chance.choice(part.split()) for part in chance.choice(NAMES))
    return "_".join(chance.choice(part.split()) for part in HANDLES) + str(chance.randrange(100))


if __name__ == "__main__":
    main()
