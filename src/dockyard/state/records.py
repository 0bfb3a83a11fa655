"""API keys as rows of the state database."""

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from dockyard.state.interface import KeyRecord


if TYPE_CHECKING:
    from sqlalchemy import Connection


_COLUMNS: Final = "identifier, name, owner, secret, actions, repositories, created, expires, used"


def add(connection: "Connection", key: KeyRecord, most: int) -> bool:
    """See `State.add_key`."""
    count = connection.exec_driver_sql("SELECT count(*) FROM keys").scalar_one()
    if count >= most:
        return False
    marks = ", ".join("?" * 9)
    statement = f"INSERT OR IGNORE INTO keys ({_COLUMNS}) VALUES ({marks})"  # noqa: S608 -- ours
    is_new = connection.exec_driver_sql(statement, _row(key)).rowcount == 1
    if is_new:
        _change(connection)
    return is_new


def remove(connection: "Connection", name: str) -> bool:
    """See `State.remove_key`."""
    was_there = connection.exec_driver_sql("DELETE FROM keys WHERE name = ?", (name,)).rowcount == 1
    if was_there:
        _change(connection)
    return was_there


def read(connection: "Connection") -> Sequence[KeyRecord]:
    """See `State.keys`."""
    statement = f"SELECT {_COLUMNS} FROM keys ORDER BY name"  # noqa: S608 -- ours
    return [_record(row) for row in connection.exec_driver_sql(statement)]


def read_since(connection: "Connection", version: str) -> tuple[str, Sequence[KeyRecord] | None]:
    """See `State.keys_since`."""
    statement = "SELECT value FROM versions WHERE name = 'keys'"
    current = str(connection.exec_driver_sql(statement).scalar() or "")
    return current, None if current == version else read(connection)


def note_used(connection: "Connection", used: Mapping[str, datetime]) -> None:
    """See `State.note_keys_used`."""
    statement = "UPDATE keys SET used = max(coalesce(used, 0), ?) WHERE identifier = ?"
    rows = [(moment.timestamp(), identifier) for identifier, moment in used.items()]
    connection.exec_driver_sql(statement, rows)


def _change(connection: "Connection") -> None:
    """Begin a version."""
    # No number that counts: that of a database begun anew might be one that somebody has seen.
    connection.exec_driver_sql(
        "INSERT OR REPLACE INTO versions (name, value) VALUES ('keys', ?)", (secrets.token_hex(8),)
    )


def _row(key: KeyRecord) -> tuple[str | float | None, ...]:
    return (
        key.identifier,
        key.name,
        key.owner,
        key.secret,
        json.dumps(list(key.actions)),
        json.dumps(list(key.repositories)),
        key.created.timestamp(),
        None if key.expires is None else key.expires.timestamp(),
        None if key.used is None else key.used.timestamp(),
    )


def _record(row: Any) -> KeyRecord:  # noqa: ANN401 -- what the database has
    identifier, name, owner, secret, actions, repositories, created, expires, used = row
    return KeyRecord(
        identifier=identifier,
        name=name,
        owner=owner,
        secret=secret,
        actions=tuple(json.loads(actions)),
        repositories=tuple(json.loads(repositories)),
        created=datetime.fromtimestamp(created, UTC),
        expires=None if expires is None else datetime.fromtimestamp(expires, UTC),
        used=None if used is None else datetime.fromtimestamp(used, UTC),
    )
