"""The version and changelog of a release."""

import re
from datetime import date

from config import VERSION
from tests.support.server import ROOT


def test_the_changelog_tells_of_each_version() -> None:
    """The newest one is that of `config.py`, and later changes are above it."""
    text = (ROOT / "CHANGELOG.md").read_text()
    unreleased, *versions = re.findall(r"^## \[(.+?)\](?: - (.+))?$", text, re.MULTILINE)
    assert unreleased == ("Unreleased", "")
    assert versions[0][0] == VERSION
    numbers = [tuple(map(int, number.split("."))) for number, _ in versions]
    days = [date.fromisoformat(day) for _, day in versions]
    assert (numbers, days) == (sorted(numbers, reverse=True), sorted(days, reverse=True))
