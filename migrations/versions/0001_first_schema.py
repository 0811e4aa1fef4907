"""The first schema: accounts, teams, awards, sessions, apps."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the schema from nothing to 0001."""
    op.create_table(
        "apps",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("permissions", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(32), nullable=False),
        sa.CheckConstraint("permissions & ~95 = 0", name="ck_apps_permissions"),
        sa.PrimaryKeyConstraint("id", name="pk_apps"),
        sa.UniqueConstraint("name", name="uq_apps_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "teams",
        sa.Column("id", ID, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("search_name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_teams"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_teams_search_name_id", "teams", ["search_name", "id"])
    op.create_table(
        "accounts",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("discriminator", sa.String(4), nullable=False),
        sa.Column("avatar_url", sa.String(2047), nullable=True),
        sa.Column("team_id", ID, nullable=True),
        sa.Column("permissions", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("search_name", sa.Text(), nullable=False),
        sa.CheckConstraint("permissions & ~111 = 0", name="ck_accounts_permissions"),
        sa.ForeignKeyConstraint(
            ["team_id"], ["teams.id"], name="fk_accounts_team_id_teams", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
    )
    op.create_index("ix_accounts_search_name_id", "accounts", ["search_name", "id"])
    op.create_index(
        "ix_accounts_team_id_search_name_id", "accounts", ["team_id", "search_name", "id"]
    )
    op.create_table(
        "awards",
        sa.Column("id", ID, nullable=False),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("image_url", sa.String(2047), nullable=False),
        sa.Column("team_id", ID, nullable=True),
        sa.ForeignKeyConstraint(
            ["team_id"], ["teams.id"], name="fk_awards_team_id_teams", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_awards"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_awards_team_id", "awards", ["team_id"])
    op.create_table(
        "awardees",
        sa.Column("account_id", ID, nullable=False),
        sa.Column("award_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name="fk_awardees_account_id_accounts",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["award_id"], ["awards.id"], name="fk_awardees_award_id_awards", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", "award_id", name="pk_awardees"),
    )
    op.create_index("ix_awardees_award_id_account_id", "awardees", ["award_id", "account_id"])
    op.create_table(
        "sessions",
        sa.Column("id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name="fk_sessions_account_id_accounts",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sessions_account_id", "sessions", ["account_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])


def downgrade() -> None:
    """Bring the schema from 0001 back to nothing."""
    for table in ("sessions", "awardees", "awards", "accounts", "teams", "apps"):
        op.drop_table(table)
