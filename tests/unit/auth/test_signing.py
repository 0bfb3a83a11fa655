import stat
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest

from dockyard.auth.signing import ROTATION, KeyRing
from dockyard.clock import utc_now
from dockyard.errors import StorageError
from tests.unit.auth.signed import NOW


DAY = timedelta(days=1)


def _name_of(directory: Path) -> str:
    return KeyRing(directory, utc_now, DAY).current().name


def test_all_workers_that_start_together_sign_with_one_key(tmp_path: Path) -> None:
    with get_context("spawn").Pool(4) as pool:
        names = pool.map(_name_of, [tmp_path / "keys"] * 8)
    assert len(set(names)) == 1
    (file,) = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_an_old_key_is_replaced_and_stays_while_it_may_be_needed(tmp_path: Path) -> None:
    now: list[datetime] = [NOW]
    ring = KeyRing(tmp_path, lambda: now[0], DAY)
    first = ring.current()
    now[0] += ROTATION
    second = ring.current()
    assert second.name != first.name
    assert [key["kid"] for key in ring.public()] == [second.name, first.name]
    assert all("d" not in key for key in ring.public())
    other = KeyRing(tmp_path, lambda: now[0], DAY)
    assert set(other.trusted(first.name).by_name) == {first.name, second.name}
    now[0] += ROTATION
    ring.current()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.json", "3.json"]


def test_a_key_in_memory_leaves_no_file() -> None:
    ring = KeyRing(None, utc_now, DAY)
    assert ring.current() is ring.current()


def test_what_is_no_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text("{}")
    with pytest.raises(StorageError, match="is not a signing key"):
        KeyRing(tmp_path, utc_now, DAY).current()


def test_a_directory_that_can_not_be_used_is_told(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    with pytest.raises(StorageError, match=f"signing keys in {place}: "):
        KeyRing(place, utc_now, DAY).current()


def test_keys_in_memory_are_replaced_too_and_the_old_ones_stay() -> None:
    now: list[datetime] = [NOW]
    ring = KeyRing(None, lambda: now[0], DAY)
    first = ring.current()
    now[0] += ROTATION
    second = ring.current()
    assert second.name != first.name
    assert set(ring.trusted(first.name).by_name) == {first.name, second.name}
