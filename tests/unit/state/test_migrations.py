"""The steps from one form of the state database to the next."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine, inspect

from dockyard.state import migrations
from dockyard.state.database import HEAD
from dockyard.state.opening import migrate, open_engine


STEPS: list[Any] = [
    import_module(f"{migrations.__name__}.{module.name}")
    for module in iter_modules(migrations.__path__)
]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database that has no form yet."""
    opened = open_engine(tmp_path / "state.db", busy_seconds=1)
    yield opened
    opened.dispose()


def shape(connection: Connection) -> dict[str, object]:
    """Return the tables, with their columns and indexes."""
    seen = inspect(connection)
    return {
        name: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in columns],
            seen.get_pk_constraint(name)["constrained_columns"],
            [(index["name"], index["column_names"]) for index in seen.get_indexes(name)],
        )
        for name in seen.get_table_names()
        if name != "alembic_version" and (columns := seen.get_columns(name))
    }


def test_the_steps_follow_one_another_to_the_head() -> None:
    by_origin = {step.down_revision: step.revision for step in STEPS}
    assert len(by_origin) == len(STEPS)
    revision, walked = None, 0
    while revision in by_origin:
        revision, walked = by_origin[revision], walked + 1
    assert revision == HEAD
    assert walked == len(STEPS)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.revision)
def test_a_step_is_called_by_its_number(step: ModuleType) -> None:
    assert step.__name__.rpartition(".")[2].startswith(f"v{step.revision}_")


def test_from_nothing_to_the_head(engine: Engine) -> None:
    migrate(engine, HEAD)
    with engine.begin() as connection:
        form = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        assert form == HEAD
        assert {"jobs", "pulls"} <= set(shape(connection))


def test_again_is_nothing(engine: Engine) -> None:
    migrate(engine, HEAD)
    with engine.begin() as connection:
        before = shape(connection)
        connection.exec_driver_sql("INSERT INTO pulls VALUES ('a', 'sha256:00', 1)")
    migrate(engine, HEAD)
    with engine.begin() as connection:
        assert shape(connection) == before
        assert connection.exec_driver_sql("SELECT count(*) FROM pulls").scalar() == 1


def test_what_an_older_form_holds_stays(engine: Engine) -> None:
    migrate(engine, "0001")
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO pulls VALUES ('a', 'sha256:00', 1)")
    migrate(engine, HEAD)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT * FROM pulls").all() == [("a", "sha256:00", 1)]
        assert connection.exec_driver_sql("SELECT * FROM keys").all() == []


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.revision)
def test_each_step_can_be_gone_back(engine: Engine, step: Any) -> None:  # noqa: ANN401 -- a module
    migrate(engine, step.revision)
    with engine.begin() as connection:
        after = shape(connection)
        with Operations.context(MigrationContext.configure(connection)):
            step.downgrade()
            before = shape(connection)
            step.upgrade()
        assert before != after
        assert shape(connection) == after


def test_a_step_that_fails_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr("alembic.op.create_index", fail)
        with pytest.raises(OSError, match="the disk is gone"):
            migrate(engine, HEAD)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == []
    migrate(engine, HEAD)
