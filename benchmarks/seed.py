"""Communities to measure with, made by the models."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app import create_app
from config import Settings
from database import db, transaction
from models import Account, Award, Awardee, Team
from tests.support.server import create_bot, flask

Auth = tuple[str, str]

FIRST = 10**17
"""The ids of accounts are those that follow: as long as Discord's."""
TEAMS, AWARDS, AWARDEES = 1000, 5000, 5
SMALL_TEAM = 20
SYLLABLES = ("bo", "ka", "mi", "tu", "ré", "лав", "su", "ne", "月", "do", "fi", "ga", "ix", "ze")


def seed(database: Path, accounts: int) -> Auth:
    """Make a community of many teams and awards; return the credentials of an app."""
    chance = random.Random(accounts)  # noqa: S311 - names, not secrets
    with _new(database) as auth:
        _add(Team(id=key, name=f"Team {key}") for key in range(1, TEAMS + 1))
        _add(_account(key, key % TEAMS + 1, chance) for key in range(1, accounts + 1))
        _add(_award(key, key % TEAMS + 1) for key in range(1, AWARDS + 1))
        _add(
            Awardee(account_id=FIRST + key, award_id=award)
            for award in range(1, AWARDS + 1)
            for key in chance.sample(range(1, accounts + 1), AWARDEES)
        )
    return auth


def seed_large(database: Path, accounts: int) -> Auth:
    """Make a community of two teams, 1 and 2, where everybody has award 1, which is of team 1.

    Team 3 has 20 more accounts, whose ids follow; they have the award, too.
    """
    chance = random.Random(accounts)  # noqa: S311 - names, not secrets
    last = accounts + SMALL_TEAM
    with _new(database) as auth:
        _add(Team(id=key, name=f"Team {key}") for key in (1, 2, 3))
        _add(
            _account(key, key % 2 + 1 if key <= accounts else 3, chance)
            for key in range(1, last + 1)
        )
        _add([_award(1, 1)])
        _add(Awardee(account_id=FIRST + key, award_id=1) for key in range(1, last + 1))
    return auth


@contextmanager
def _new(database: Path) -> Iterator[Auth]:
    """Make a database and an app that may do everything, and fill it in one transaction."""
    flask(database, "db", "upgrade")
    auth = create_bot(database, "--all")
    app = create_app(Settings(database_url=f"sqlite:///{database}", log_level="ERROR"))
    with app.app_context():
        with transaction(write=True):
            yield auth
        db.engine.dispose()


def _add(records: Iterable[object]) -> None:
    db.session.add_all(records)
    db.session.flush()
    db.session.expunge_all()


def _account(key: int, team: int, chance: random.Random) -> Account:
    """Make an account; the name of about one in ten contains `ann`."""
    parts = chance.choices(SYLLABLES, k=chance.randint(2, 5))
    if key % 10 == 0:
        parts.insert(1, "Ann")
    return Account(
        id=FIRST + key,
        name="".join(parts).title(),
        discriminator="0",
        avatar_url=f"https://cdn.example/avatars/{key}/0123456789abcdef0123456789abcdef.png",
        team_id=team,
    )


def _award(key: int, team: int) -> Award:
    image_url = f"https://example.com/awards/{key}.png"
    return Award(id=key, title=f"Award {key}", image_url=image_url, team_id=team)
