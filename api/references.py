"""The records that a request names by their ids, and whether they exist."""

import json
from collections.abc import Iterator

import marshmallow as ma
from sqlalchemy import bindparam, literal_column, select, union_all

from api.errors import Issues, issue
from api.parsing import Fields, Parsed, Values
from database import Statement
from fields import ListOf, Reference, not_found
from models import Account, Award, Team
from permissions import Target
from shapes import given_ids

_MODELS: list[type[Account | Team | Award]] = [Account, Team, Award]
_TEAM_OF = Statement(select(Account.team_id).where(Account.id == bindparam("id")))
_EXISTING = Statement(
    union_all(
        *(
            select(
                literal_column(f"'{model.__name__}'").label("model"), model.id.label("id")
            ).where(model.id.in_(given_ids(model.__name__)))
            for model in _MODELS
        )
    )
)


def missing(
    parsed: Parsed, path: Fields, query: ma.Schema | None, body: ma.Schema | None
) -> Issues:
    """Return an issue for each id that names no record."""
    named = [
        *_named("path", path, parsed.path),
        *_named("query", query.load_fields if query else {}, parsed.query),
        *_named("body", body.load_fields if body else {}, parsed.body),
    ]
    issues = Issues()
    if not named:
        return issues
    wanted: dict[str, set[int]] = {model.__name__: set() for model in _MODELS}
    for _, model, key in named:
        wanted[model].add(key)
    ids = {model: json.dumps(list(keys)) for model, keys in wanted.items()}
    existing = {(row.model, row.id) for row in _EXISTING.all(**ids)}
    absent = [(loc, model) for loc, model, key in named if (model, key) not in existing]
    issues.add((issue(loc, not_found(model.lower())) for loc, model in absent), len(absent))
    return issues


def target(path: Values) -> Target:
    """Return the target of a request, from the records that its path names."""
    if "account" in path:
        account_id = path["account"]
        return Target(account_id=account_id, team_id=_TEAM_OF.value(id=account_id))
    return Target(team_id=path.get("team"))


def _named(location: str, fields: Fields, values: Values) -> Iterator[tuple[list[str], str, int]]:
    """Return the place of each id, the name of its model, and the id."""
    for name, value in values.items():
        field = fields[name]
        reference = field.inner if isinstance(field, ListOf) else field
        if not isinstance(reference, Reference):
            continue
        if isinstance(value, list):
            for index, key in enumerate(value):
                if key:  # None stands for a bad id
                    yield [location, name, str(index)], reference.model.__name__, key
        elif value:
            yield [location, name], reference.model.__name__, value
