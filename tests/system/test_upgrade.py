"""Upgrades: all data is kept, and new columns are filled from it."""

from datetime import datetime

from sqlalchemy import Connection, inspect

from tests.support.databases import Database, connected
from tests.system.test_start import COMMAND, start

COMMUNITY_OF_0003 = """
    INSERT INTO apps (id, name, permissions, created_at, token_digest)
        VALUES (1, 'bot', 95, 1e9, '00');
    INSERT INTO teams (id, name, search_name, created_at)
        VALUES (1, 'Red', 'red', 1e9), (2, 'Blue', 'blue', 1e9), (3, 'Empty', 'empty', 1e9);
    INSERT INTO accounts
        (id, name, search_name, discriminator, avatar_url, team_id, permissions, created_at)
        VALUES (10, 'Ann', 'ann', '0', 'http://a', 1, 32, 1e9 + 0.123456),
        (11, 'Bob', 'bob', '0042', NULL, 1, 0, 1e9), (12, 'Ed', 'ed', '0', NULL, NULL, 0, 1e9);
    INSERT INTO awards (id, title, image_url, team_id)
        VALUES (1, 'Straße Ⅷ', 'http://x', 1), (2, 'Награда', 'http://x', 1),
        (3, '月の賞 ｶﾞ', 'http://x', 2), (4, 'Élan', 'http://x', NULL);
    INSERT INTO awardees (account_id, award_id) VALUES (10, 1), (11, 1), (10, 2), (11, 3);
    INSERT INTO sessions (id, account_id, created_at, expires_at, token_digest)
        VALUES (1, 10, 1e9, 2e9, '00');
    INSERT INTO callbacks (id, app_id, event, url, secret, registered_at, failures)
        VALUES (1, 1, 'award_give', 'http://x', 'secret', 1e9, 0);
    INSERT INTO deliveries
        (id, callback_id, subject, webhook_id, body, created_at, attempts, due_at)
        VALUES (1, 1, 10, 'msg_1', '{}', 1e9, 0, 0);
    INSERT INTO events
        (id, type, author, created_at, account_id, team_id, left_team_id, award_id)
        VALUES (1, 'account_team_update', 'app 1', 1e9 + 1, 10, 1, 2, NULL),
        (2, 'award_give', 'app 1', 1e9 + 2, 10, NULL, NULL, 1),
        (3, 'award_take', 'app 1', 1e9 + 3, 10, NULL, NULL, 1),
        (4, 'award_give', 'app 1', 1e9 + 4.000001, 10, NULL, NULL, 1),
        (5, 'award_give', 'account 10', 1e9 + 5, 11, NULL, NULL, 3),
        (6, 'award_give', 'app 1', 1e9 + 6, 12, NULL, NULL, 3),
        (7, 'award_take', 'app 1', 1e9 + 7, 12, NULL, NULL, 3)
"""
"""Award 1 was given to account 10 twice, and to 11 before the log began, like award 2 to 10."""

NEW_OF_0004 = {
    "SELECT id, search_title, points, created_at, holder_count FROM awards ORDER BY id": [
        (1, "strasse viii", 1, 1e9 + 2, 2),
        (2, "награда", 1, None, 1),
        (3, "月の賞 ガ", 1, 1e9 + 5, 1),
        (4, "élan", 1, None, 0),
    ],
    "SELECT account_id, award_id, given_at FROM awardees ORDER BY award_id, account_id": [
        (10, 1, 1e9 + 4.000001),
        (11, 1, None),
        (10, 2, None),
        (11, 3, 1e9 + 5),
    ],
    "SELECT id, points, award_count, member_count FROM teams ORDER BY id": [
        (1, 2, 2, 2),
        (2, 1, 1, 0),
        (3, 0, 0, 0),
    ],
    "SELECT count(*) FROM events WHERE app_id IS NULL AND changed IS NULL "
    "AND granted = 0 AND revoked = 0": [(7,)],
}
"""The result of the upgrade."""

TABLES = ("apps", "teams", "accounts", "awards", "awardees", "sessions")
"""The tables that have existed since 0001."""

CHANGES: list[tuple[str, list[tuple[int, int]], list[int]]] = [
    (
        """INSERT INTO awards (id, title, search_title, image_url, team_id, points)
        VALUES (5, 'x', 'x', 'http://x', 3, 7), (6, 'x', 'x', 'http://x', NULL, 9)""",
        [(2, 2), (1, 1), (7, 1)],
        [2, 1, 1, 0, 0, 0],
    ),
    (
        "UPDATE awards SET points = points * 2, team_id = 3 WHERE id IN (2, 5)",
        [(1, 1), (1, 1), (16, 2)],
        [2, 1, 1, 0, 0, 0],
    ),
    (
        "INSERT INTO awardees (account_id, award_id) VALUES (12, 1), (12, 5)",
        [(1, 1), (1, 1), (16, 2)],
        [3, 1, 1, 0, 1, 0],
    ),
    (
        "UPDATE awardees SET award_id = 4 WHERE award_id = 2",
        [(1, 1), (1, 1), (16, 2)],
        [3, 0, 1, 1, 1, 0],
    ),
    ("DELETE FROM accounts WHERE id = 10", [(1, 1), (1, 1), (16, 2)], [2, 0, 1, 0, 1, 0]),
    ("DELETE FROM awards WHERE id = 1", [(0, 0), (1, 1), (16, 2)], [0, 1, 0, 1, 0]),
    ("DELETE FROM teams WHERE id = 3", [(0, 0), (1, 1)], [0, 1, 0, 1, 0]),
]
"""Changes after it, each with the teams' points and numbers of awards then, and the number of each
award's holders."""


def migrate(database: Database, *arguments: str) -> None:
    """Run `flask db ...`, which must succeed."""
    done = start("flask", "db", *arguments, database=database)
    assert done.returncode == 0, done.stderr


def rows(connection: Connection, query: str) -> list[tuple[object, ...]]:
    """Return the rows of a query."""
    return [tuple(row) for row in connection.exec_driver_sql(query)]


def columns_of(connection: Connection, *tables: str) -> dict[str, str]:
    """Return the names of the columns of tables."""
    return {
        table: ", ".join(column["name"] for column in inspect(connection).get_columns(table))
        for table in tables
    }


def test_upgrade_from_0003(blank_database: Database) -> None:
    """Awards get their times from the log; downgrading and upgrading again is the same."""
    migrate(blank_database, "upgrade", "0003")
    with connected(blank_database) as connection:
        for statement in COMMUNITY_OF_0003.split(";"):
            connection.exec_driver_sql(statement)
        columns = columns_of(connection, *TABLES, "callbacks", "deliveries", "events")
        before = data(connection, columns)
        for _ in range(2):
            migrate(blank_database, "upgrade")
            assert data(connection, columns) == before
            for query, expected in NEW_OF_0004.items():
                assert rows(connection, query) == expected
            migrate(blank_database, "downgrade", "0003")
            assert columns_of(connection, *columns) == columns
            assert data(connection, columns) == before
        migrate(blank_database, "upgrade")
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        for change, teams, holders in CHANGES:
            connection.exec_driver_sql(change)
            assert rows(connection, "SELECT points, award_count FROM teams ORDER BY id") == teams
            held = rows(connection, "SELECT holder_count FROM awards ORDER BY id")
            assert [count for (count,) in held] == holders, change


def test_upgrade_keeps_data_and_is_idempotent(blank_database: Database) -> None:
    assert start("flask", "db", "upgrade", "0001", database=blank_database).returncode == 0
    old = """
        INSERT INTO apps VALUES (1, 'bot', 95, '2026-01-01 00:00:00.000000', '00');
        INSERT INTO teams VALUES (1, '2026-01-01 00:00:00.000000', 'Red', 'red');
        INSERT INTO accounts
            VALUES (10, '0', NULL, 1, 32, '2026-01-31 07:05:03.123456', 'Ann', 'ann');
        INSERT INTO awards VALUES (1, 'First', 'http://x', 1);
        INSERT INTO awardees VALUES (10, 1);
        INSERT INTO sessions
            VALUES (1, 10, '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', '00')
    """
    with connected(blank_database) as connection:
        for statement in old.split(";"):
            connection.exec_driver_sql(statement)
        columns = columns_of(connection, *TABLES)
        before = data(connection, columns)
        for table in before.values():
            table[:] = [tuple(map(seconds, row)) for row in table]
        assert "not up to date" in start(*COMMAND, database=blank_database).stderr
        for _ in range(2):
            assert start("flask", "db", "upgrade", database=blank_database).returncode == 0
            assert before == data(connection, columns)
        assert connection.exec_driver_sql("SELECT member_count FROM teams").scalar() == 1
    assert "bot" in start(*COMMAND, database=blank_database).stdout


def seconds(value: object) -> object:
    """Return a time as it is stored since migration 0003; anything else as it is."""
    if str(value).startswith("2026-"):
        return datetime.fromisoformat(f"{value}+00:00").timestamp()
    return value


def data(connection: Connection, columns: dict[str, str]) -> dict[str, list[tuple[object, ...]]]:
    """Return the values in some columns of tables."""
    return {
        table: rows(connection, f"SELECT {names} FROM {table} ORDER BY {names}")  # noqa: S608
        for table, names in columns.items()
    }


def test_models_and_migrations_agree(empty_database: Database) -> None:
    checked = start("flask", "db", "check", database=empty_database)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_downgrade(blank_database: Database) -> None:
    start("flask", "db", "upgrade", database=blank_database)
    assert start("flask", "db", "downgrade", "base", database=blank_database).returncode == 0
    with connected(blank_database) as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
