"""How Alembic migrates the database: all or nothing, one process at a time."""

from alembic import context

from commands.checks import exit_on_errors
from database import Base, db


def _migrate() -> None:
    with db.engine.connect().execution_options(write=True) as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:  # recreating a table must not delete rows that refer to it
            connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
            if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
                raise SystemExit(
                    f"The migration would break references, so it was undone: {broken}"
                )
        connection.invalidate()


with exit_on_errors():
    _migrate()
