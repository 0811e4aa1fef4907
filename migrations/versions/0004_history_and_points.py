"""A complete history, with changes and the times of awards; the points of teams."""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
EVENT_COLUMNS = ("type", "account_id", "team_id", "left_team_id", "award_id")
"""The columns that the log is searched by."""

COUNTS = {
    "awards": ("teams", "team_id", {"award_count": "1", "points": "points"}),
    "awardees": ("awards", "award_id", {"holder_count": "1"}),
}
"""For each table: the table with its sums, the column that refers to it, and a row's share."""

POSTGRESQL_FUNCTION = """
CREATE FUNCTION sum_{table}_{event}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE {owner} SET {changes} FROM (
    SELECT {key}, {sums} FROM ({rows}) AS rows WHERE {key} IS NOT NULL GROUP BY {key}
  ) AS sums WHERE {owner}.id = sums.{key} AND ({nonzero});
  RETURN NULL;
END $$
"""


def upgrade() -> None:
    """Bring the schema from 0003 to 0004."""
    _extend_events()
    _extend_awards()
    op.add_column("awardees", sa.Column("given_at", sa.Double, nullable=True))
    _take_times_from_the_log()
    op.create_index("ix_awardees_given_at", "awardees", ["given_at"])
    op.create_index("ix_accounts_created_at", "accounts", ["created_at"])
    for table, (owner, key, sums) in COUNTS.items():
        for name, value in sums.items():
            op.add_column(owner, sa.Column(name, sa.Integer, nullable=False, server_default="0"))
            total = f"SELECT coalesce(sum({value}), 0) FROM {table} WHERE {key} = {owner}.id"  # noqa: S608 - names of this file
            op.execute(f"UPDATE {owner} SET {name} = ({total})")  # noqa: S608
        (_sum_on_sqlite if _is_sqlite() else _sum_on_postgresql)(table, owner, key, sums)
    order = [sa.column("points").desc(), "search_name", "id"]
    op.create_index("ix_teams_points_search_name_id", "teams", order)


def downgrade() -> None:
    """Bring the schema from 0004 back to 0003."""
    op.drop_index("ix_teams_points_search_name_id", "teams")
    for table, (owner, _, sums) in COUNTS.items():
        for event in ("insert", "delete", "update"):
            if _is_sqlite():
                op.execute(f"DROP TRIGGER sum_{table}_{event}")
            else:
                op.execute(f"DROP FUNCTION sum_{table}_{event} CASCADE")
        for name in sums:
            op.drop_column(owner, name)
    op.drop_index("ix_accounts_created_at", "accounts")
    op.drop_index("ix_awardees_given_at", "awardees")
    op.drop_column("awardees", "given_at")
    for index in ("created_at", "search_title_id"):
        op.drop_index(f"ix_awards_{index}", "awards")
    for name in ("search_title", "points", "created_at"):
        op.drop_column("awards", name)
    for column in EVENT_COLUMNS:
        op.drop_index(f"ix_events_{column}_id", "events")
    for column in EVENT_COLUMNS[1:-1]:
        op.create_index(f"ix_events_{column}", "events", [column])
    for name in ("app_id", "changed", "granted", "revoked"):
        op.drop_column("events", name)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _extend_events() -> None:
    op.add_column("events", sa.Column("app_id", ID, nullable=True))
    op.add_column("events", sa.Column("changed", sa.Text, nullable=True))
    for name in ("granted", "revoked"):
        op.add_column("events", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    for column in EVENT_COLUMNS[1:-1]:
        op.drop_index(f"ix_events_{column}", "events")
    for column in EVENT_COLUMNS:
        op.create_index(f"ix_events_{column}_id", "events", [column, "id"])


def _extend_awards() -> None:
    folded = sa.Text() if _is_sqlite() else sa.Text(collation="C")
    op.add_column("awards", sa.Column("search_title", folded, nullable=True))
    op.add_column("awards", sa.Column("points", sa.Integer, nullable=False, server_default="1"))
    op.add_column("awards", sa.Column("created_at", sa.Double, nullable=True))
    awards = sa.table("awards", *(sa.column(name) for name in ("id", "title", "search_title")))
    folding = (
        awards.update()
        .where(awards.c.id == sa.bindparam("award"))
        .values(search_title=sa.bindparam("folded"))
    )
    titles = op.get_bind().execute(sa.select(awards.c.id, awards.c.title)).all()
    if titles:
        op.get_bind().execute(
            folding, [{"award": row.id, "folded": _fold(row.title)} for row in titles]
        )
    with op.batch_alter_table("awards", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.alter_column("search_title", existing_type=folded, nullable=False)
    op.create_index("ix_awards_search_title_id", "awards", ["search_title", "id"])
    op.create_index("ix_awards_created_at", "awards", ["created_at"])


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _take_times_from_the_log() -> None:
    """Fill in the times of awards, and of giving them, that are still in the log.

    The log is gone through once for each, however many events one award or account has.
    """
    op.execute(
        "UPDATE awards SET created_at = given.at FROM ("
        "SELECT award_id, min(created_at) AS at FROM events "
        "WHERE type = 'award_give' GROUP BY award_id"
        ") AS given WHERE awards.id = given.award_id"
    )
    op.execute(
        "UPDATE awardees SET given_at = given.at FROM ("
        "SELECT award_id, account_id, max(created_at) AS at FROM events "
        "WHERE type = 'award_give' GROUP BY award_id, account_id"
        ") AS given "
        "WHERE awardees.award_id = given.award_id AND awardees.account_id = given.account_id"
    )


def _sum_on_sqlite(table: str, owner: str, key: str, sums: dict[str, str]) -> None:
    def change(sign: str, row: str) -> str:
        columns = ", ".join(
            f"{name} = {name} {sign} {value if value == '1' else f'{row}.{value}'}"
            for name, value in sums.items()
        )
        return f"UPDATE {owner} SET {columns} WHERE id = {row}.{key}; "  # noqa: S608

    gone, new = change("-", "OLD"), change("+", "NEW")
    used = ", ".join([key, *(value for value in sums.values() if value != "1")])
    for event, changes in (
        ("INSERT", new),
        ("DELETE", gone),
        (f"UPDATE OF {used}", gone + new),
    ):
        name = f"sum_{table}_{event.split()[0].lower()}"
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {changes} END")


def _sum_on_postgresql(table: str, owner: str, key: str, sums: dict[str, str]) -> None:
    def rows(sign: str, source: str) -> str:
        columns = ", ".join(f"{sign}{value} AS {name}" for name, value in sums.items())
        return f"SELECT {key}, {columns} FROM {source}"  # noqa: S608

    gone, new = rows("-", "gone"), rows("", "new")
    for event, changed, tables in (
        ("insert", new, "NEW TABLE AS new"),
        ("delete", gone, "OLD TABLE AS gone"),
        ("update", f"{gone} UNION ALL {new}", "OLD TABLE AS gone NEW TABLE AS new"),
    ):
        op.execute(
            POSTGRESQL_FUNCTION.format(
                table=table,
                event=event,
                owner=owner,
                key=key,
                rows=changed,
                sums=", ".join(f"sum({name}) AS {name}" for name in sums),
                changes=", ".join(f"{name} = {owner}.{name} + sums.{name}" for name in sums),
                nonzero=" OR ".join(f"sums.{name} <> 0" for name in sums),
            )
        )
        op.execute(
            f"CREATE TRIGGER sum_{table}_{event} AFTER {event.upper()} ON {table} "
            f"REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION sum_{table}_{event}()"
        )
