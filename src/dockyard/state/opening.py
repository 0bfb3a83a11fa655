"""Opening the state database, and bringing it to its newest form."""

import sqlite3
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, StaticPool, create_engine, event, inspect


def open_engine(path: Path | None, busy_seconds: int) -> Engine:
    """Return an engine for the SQLite file at `path`, or for one in memory."""
    arguments = {"timeout": busy_seconds, "check_same_thread": False}
    if path is None:
        engine = create_engine("sqlite://", connect_args=arguments, poolclass=StaticPool)
    else:
        engine = create_engine(f"sqlite:///{path}", connect_args=arguments, pool_size=1)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def migrate(engine: Engine, head: str) -> None:
    """Bring the database to the form `head`, one process at a time.

    Raises:
        sqlite3.NotSupportedError: a newer version has brought it further; it is as it was.
    """
    with engine.begin() as connection:
        if inspect(connection).has_table("alembic_version"):
            form = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            if form == head:
                return
        config = Config()
        config.set_main_option("script_location", "dockyard.state:migrations")
        config.set_main_option("version_locations", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "newline")
        script = ScriptDirectory.from_config(config)

        def steps(revision: Any, _: Any) -> Any:  # noqa: ANN401 -- alembic's own types are private
            return script._upgrade_revs(head, revision)  # noqa: SLF001 -- as its env.py does

        with EnvironmentContext(config, script, fn=steps) as context:
            context.configure(connection=connection, transactional_ddl=True)
            try:
                context.run_migrations()
            except CommandError as error:
                raise sqlite3.NotSupportedError(f"of a newer version: {error}") from error


def _prepare(connection: Any, _: Any) -> None:  # noqa: ANN401 -- what the event gives
    # Python's driver would begin transactions by itself, and not for the making of tables.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    # Each commit is synced, and there are few: a revoked key must not come back with the power.
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: Any) -> None:  # noqa: ANN401 -- what the event gives
    connection.exec_driver_sql("BEGIN IMMEDIATE")
