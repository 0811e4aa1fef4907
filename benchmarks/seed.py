"""A community to measure with."""

import random
from collections.abc import Iterator
from typing import Any

from database import db, transaction
from models import Account, App, Award, Awardee, Team
from permissions import APP_PERMISSIONS

TEAMS, AWARDS, AWARDEES = 200, 300, 5
SYLLABLES = ("bo", "ka", "mi", "tu", "ré", "лав", "su", "ne", "月", "do", "fi", "ga", "ix", "ze")


def _name(number: int, chance: random.Random) -> str:
    """Make a name; about one in ten contains `ann`."""
    parts = chance.choices(SYLLABLES, k=chance.randint(2, 5))
    if number % 10 == 0:
        parts.insert(1, "Ann")
    return "".join(parts).title()


def _accounts(number: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    for key in range(1, number + 1):
        account = Account(name=_name(key, chance))
        yield {
            "id": 10**17 + key,
            "name": account.name,
            "search_name": account.search_name,
            "discriminator": "0",
            "avatar_url": f"https://cdn.example/avatars/{key}/0123456789abcdef0123456789abcdef.png",
            "team_id": key % TEAMS + 1,
            "permissions": 0,
        }


def seed(accounts: int) -> tuple[str, str]:
    """Fill the empty database of the running app; give the credentials of an app."""
    chance = random.Random(accounts)  # noqa: S311 - names, not secrets
    with transaction(write=True):
        app = App(name="benchmark", permissions=int(APP_PERMISSIONS))
        token = app.renew_token()
        db.session.add(app)
        db.session.add_all(Team(id=key, name=f"Team {key}") for key in range(1, TEAMS + 1))
        db.session.flush()
        db.session.execute(db.insert(Account), list(_accounts(accounts, chance)))
        db.session.add_all(
            Award(
                id=key,
                title=f"Award {key}",
                image_url=f"https://example.com/awards/{key}.png",
                team_id=key % TEAMS + 1,
            )
            for key in range(1, AWARDS + 1)
        )
        db.session.flush()
        db.session.add_all(
            Awardee(account_id=10**17 + account, award_id=award)
            for award in range(1, AWARDS + 1)
            for account in chance.sample(range(1, accounts + 1), AWARDEES)
        )
        db.session.flush()
        return app.username, token
