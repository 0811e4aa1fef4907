"""Times as seconds, the number of a team's members kept by triggers, and due deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Type = sa.DateTime | sa.Double
REQUIRED, OPTIONAL = False, True
TIMES = {
    "apps": {"created_at": REQUIRED},
    "teams": {"created_at": REQUIRED},
    "accounts": {"created_at": REQUIRED},
    "sessions": {"created_at": REQUIRED, "expires_at": REQUIRED},
    "events": {"created_at": REQUIRED},
    "callbacks": {
        "registered_at": REQUIRED,
        "resting_until": OPTIONAL,
        "leased_until": OPTIONAL,
    },
    "deliveries": {"created_at": REQUIRED, "attempted_at": OPTIONAL, "retry_at": OPTIONAL},
}
"""The columns that hold times, and whether they may be empty."""

CHECKS = {"apps": 95, "accounts": 111}
"""The permissions that each table allows; a recreated table loses its checks."""

SQLITE_TRIGGERS = {
    "INSERT": "UPDATE teams SET member_count = member_count + 1 WHERE id = NEW.team_id",
    "DELETE": "UPDATE teams SET member_count = member_count - 1 WHERE id = OLD.team_id",
    "UPDATE OF team_id": (
        "UPDATE teams SET member_count = member_count + (id IS NEW.team_id) - (id IS OLD.team_id) "
        "WHERE id IN (OLD.team_id, NEW.team_id)"
    ),
}
POSTGRESQL_FUNCTION = """
CREATE FUNCTION count_members_{event}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE teams SET member_count = member_count + change FROM (
    SELECT team_id, sum(members) AS change FROM ({rows}) AS rows
    WHERE team_id IS NOT NULL GROUP BY team_id HAVING sum(members) <> 0
  ) AS changes WHERE id = changes.team_id;
  RETURN NULL;
END $$
"""
GONE, NEW = "SELECT team_id, -1 AS members FROM gone", "SELECT team_id, 1 AS members FROM new"
POSTGRESQL_TRIGGERS = {
    "INSERT": (NEW, "NEW TABLE AS new"),
    "DELETE": (GONE, "OLD TABLE AS gone"),
    "UPDATE": (f"{GONE} UNION ALL {NEW}", "OLD TABLE AS gone NEW TABLE AS new"),
}


def upgrade() -> None:
    """Bring the schema from 0002 to 0003."""
    sqlite = _is_sqlite()
    for table, columns in TIMES.items():
        (_to_seconds_on_sqlite if sqlite else _to_seconds_on_postgresql)(table, columns)
    op.execute("ALTER TABLE deliveries RENAME COLUMN retry_at TO due_at")
    _mark_what_is_due()
    op.drop_index("ix_deliveries_callback_id", "deliveries")
    op.create_index(
        "ix_deliveries_callback_id_due_at_id", "deliveries", ["callback_id", "due_at", "id"]
    )
    op.add_column(
        "teams", sa.Column("member_count", sa.Integer, nullable=False, server_default="0")
    )
    op.execute(
        "UPDATE teams SET member_count = "
        "(SELECT count(*) FROM accounts WHERE accounts.team_id = teams.id)"
    )
    if sqlite:
        _count_on_sqlite()
    else:
        _count_on_postgresql()
        _order_on_postgresql("C")


def downgrade() -> None:
    """Bring the schema from 0003 back to 0002."""
    for event in ("insert", "delete", "update"):
        if _is_sqlite():
            op.execute(f"DROP TRIGGER count_members_{event}")
        else:
            op.execute(f"DROP FUNCTION count_members_{event} CASCADE")
    if not _is_sqlite():
        _order_on_postgresql("default")
    op.drop_column("teams", "member_count")
    op.drop_index("ix_deliveries_callback_id_due_at_id", "deliveries")
    op.create_index("ix_deliveries_callback_id", "deliveries", ["callback_id"])
    op.execute("UPDATE deliveries SET due_at = NULL WHERE due_at = 0")
    op.execute("ALTER TABLE deliveries RENAME COLUMN due_at TO retry_at")
    for table, columns in TIMES.items():
        (_to_dates_on_sqlite if _is_sqlite() else _to_dates_on_postgresql)(table, columns)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _to_seconds_on_sqlite(table: str, columns: dict[str, bool]) -> None:
    for column in columns:
        whole, fraction = f"substr({column}, 1, 19)", f"'0' || substr({column}, 20)"
        seconds = f"strftime('%s', {whole}) + CAST({fraction} AS REAL)"
        _update(table, column, seconds)
    _retype_on_sqlite(table, columns, sa.DateTime(), sa.Double())


def _to_dates_on_sqlite(table: str, columns: dict[str, bool]) -> None:
    _retype_on_sqlite(table, columns, sa.Double(), sa.DateTime())
    for column in columns:
        whole = f"CAST({column} AS INTEGER)"
        fraction = f"substr(printf('%.6f', {column} - {whole}), 2)"
        _update(table, column, f"datetime({whole}, 'unixepoch') || {fraction}")


def _update(table: str, column: str, value: str) -> None:
    rows = sa.table(table, sa.column(column))
    there = rows.c[column].is_not(None)
    op.execute(rows.update().where(there).values({column: sa.literal_column(value)}))


def _retype_on_sqlite(table: str, columns: dict[str, bool], before: Type, after: Type) -> None:
    checks = []
    if table in CHECKS:
        condition = f"permissions & ~{CHECKS[table]} = 0"
        checks.append(sa.CheckConstraint(condition, name=op.f(f"ck_{table}_permissions")))
    with op.batch_alter_table(
        table,
        recreate="always",
        table_args=checks,
        table_kwargs={"sqlite_autoincrement": table != "accounts"},
    ) as batch:
        for column, nullable in columns.items():
            batch.alter_column(
                column, type_=after, existing_type=before, existing_nullable=nullable
            )


def _to_seconds_on_postgresql(table: str, columns: dict[str, bool]) -> None:
    for column in columns:
        op.execute(
            f"ALTER TABLE {table} ALTER COLUMN {column} TYPE DOUBLE PRECISION "
            f"USING CAST(extract(epoch FROM {column}) AS DOUBLE PRECISION)"
        )


def _to_dates_on_postgresql(table: str, columns: dict[str, bool]) -> None:
    for column in columns:
        op.execute(
            f"ALTER TABLE {table} ALTER COLUMN {column} TYPE TIMESTAMP WITHOUT TIME ZONE "
            f"USING to_timestamp({column}) AT TIME ZONE 'UTC'"
        )


def _order_on_postgresql(collation: str) -> None:
    """Order names: by bytes, as SQLite does, or by the rules of the host's language."""
    for table in ("teams", "accounts"):
        op.execute(f'ALTER TABLE {table} ALTER COLUMN search_name TYPE TEXT COLLATE "{collation}"')


def _mark_what_is_due() -> None:
    """Keep a time (0: at once) only on the first delivery of each subject."""
    op.execute(
        "UPDATE deliveries SET due_at = CASE WHEN EXISTS (SELECT 1 FROM deliveries AS earlier "
        "WHERE earlier.callback_id = deliveries.callback_id "
        "AND earlier.subject = deliveries.subject AND earlier.id < deliveries.id) "
        "THEN NULL ELSE coalesce(due_at, 0) END"
    )


def _count_on_sqlite() -> None:
    for event, change in SQLITE_TRIGGERS.items():
        name = f"count_members_{event.split()[0].lower()}"
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON accounts BEGIN {change}; END")


def _count_on_postgresql() -> None:
    for event, (rows, tables) in POSTGRESQL_TRIGGERS.items():
        op.execute(POSTGRESQL_FUNCTION.format(event=event.lower(), rows=rows))
        op.execute(
            f"CREATE TRIGGER count_members_{event.lower()} AFTER {event} ON accounts "
            f"REFERENCING {tables} FOR EACH STATEMENT "
            f"EXECUTE FUNCTION count_members_{event.lower()}()"
        )
