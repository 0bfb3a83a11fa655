from datetime import timedelta
from pathlib import Path

import pytest

from dockyard.core.leases import LEASE_LIMIT, MARK_LENGTH, TAIL, Leases
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Storage
from tests.parts.faults import Unreadable


BLOB = Digest.of(b"a blob")
OTHER = Digest.of(b"another")


@pytest.fixture
def storage() -> Storage:
    return InMemoryStorage()


@pytest.fixture
def leases(storage: Storage) -> Leases:
    return Leases(storage)


async def test_what_nobody_was_told_of_is_not_held(leases: Leases) -> None:
    assert not await leases.is_held(BLOB)
    assert not await leases.is_held_in("a", BLOB)


async def test_what_a_client_was_told_of_is_held_for_its_repository(leases: Leases) -> None:
    await leases.tell("team/a", BLOB)
    assert await leases.is_held(BLOB)
    assert await leases.is_held_in("team/a", BLOB)
    assert not await leases.is_held_in("team", BLOB)
    assert not await leases.is_held_in("a", BLOB)
    assert not await leases.is_held(OTHER)


async def test_a_manifest_takes_a_lease_back(leases: Leases) -> None:
    await leases.tell("a", BLOB)
    await leases.release("a", [BLOB])
    assert not await leases.is_held(BLOB)


async def test_each_client_holds_it_for_itself(leases: Leases) -> None:
    await leases.tell("a", BLOB, "one")
    await leases.tell("a", BLOB, "two")
    await leases.release("a", [BLOB], "one")
    assert await leases.is_held(BLOB)
    await leases.release("a", [BLOB], "two")
    assert not await leases.is_held(BLOB)


async def test_a_manifest_takes_back_all_that_its_client_was_told(leases: Leases) -> None:
    """docker uploads a blob, asks for it by HEAD, and pushes one manifest."""
    await leases.tell("a", BLOB, "docker")
    await leases.tell("a", BLOB, "docker")
    await leases.release("a", [BLOB], "docker")
    assert not await leases.is_held(BLOB)


async def test_what_was_not_told_after_all_is_taken_back_once(leases: Leases) -> None:
    await leases.tell("a", BLOB, "one")
    await leases.tell("a", BLOB, "one")
    await leases.withdraw("a", BLOB, "one")
    assert await leases.is_held(BLOB)
    await leases.withdraw("a", BLOB, "one")
    assert not await leases.is_held(BLOB)


async def test_a_manifest_of_another_repository_takes_nothing_back(leases: Leases) -> None:
    await leases.tell("a", BLOB)
    await leases.tell("b", BLOB)
    await leases.release("b", [BLOB])
    assert await leases.is_held_in("a", BLOB)
    assert not await leases.is_held_in("b", BLOB)


async def test_a_manifest_that_comes_without_a_lease_takes_none_back(
    leases: Leases, storage: Storage
) -> None:
    await leases.release("a", [BLOB])
    assert not await storage.exists(layout.lease(BLOB, "a"))
    await leases.tell("a", BLOB)
    assert await leases.is_held(BLOB)


async def test_two_manifests_at_once_take_one_lease_back_once(leases: Leases) -> None:
    """The next lease of the client must count all the same."""
    await leases.tell("a", BLOB)
    await leases.withdraw("a", BLOB)
    await leases.withdraw("a", BLOB)
    assert not await leases.is_held(BLOB)
    await leases.tell("a", BLOB)
    assert await leases.is_held(BLOB)


async def test_a_lease_expires(storage: Storage) -> None:
    await Leases(storage).tell("a", BLOB)
    assert await Leases(storage, timedelta(seconds=60)).is_held(BLOB)
    assert not await Leases(storage, timedelta(seconds=-1)).is_held(BLOB)


async def test_one_that_grew_too_long_is_held_until_it_expires(storage: Storage) -> None:
    await storage.note(layout.lease(BLOB, "a"), b"+-" * LEASE_LIMIT)
    assert await Leases(storage).is_held(BLOB)
    await Leases(storage).release("a", [BLOB])
    assert await Leases(storage).is_held(BLOB)
    assert not await Leases(storage, timedelta(seconds=-1)).is_held(BLOB)


async def test_what_was_told_before_the_end_that_is_looked_at_is_taken_back(
    leases: Leases,
) -> None:
    await leases.tell("a", BLOB, "one")
    for _ in range(TAIL // MARK_LENGTH + 1):
        await leases.tell("a", BLOB, "two")
    await leases.release("a", [BLOB], "one")
    await leases.release("a", [BLOB], "two")
    assert not await leases.is_held(BLOB)


@pytest.mark.parametrize("path", [layout.leases(BLOB), layout.lease(BLOB, "a")])
async def test_one_that_cannot_be_read_is_held(path: str) -> None:
    storage = Unreadable(path)
    await Leases(storage).tell("a", BLOB)
    await Leases(storage).release("a", [BLOB])
    assert await Leases(storage).is_held(BLOB)
    await Leases(storage).sweep()
    assert await storage.exists(layout.lease(BLOB, "a"))


async def test_a_sweep_removes_what_holds_nothing(leases: Leases, storage: Storage) -> None:
    for name in ("a", "b", "team/c"):
        await leases.tell(name, BLOB)
    await leases.tell("a", OTHER)
    await leases.release("a", [BLOB])
    await leases.release("team/c", [BLOB])
    await leases.release("a", [OTHER])
    await leases.sweep()
    assert await leases.is_held_in("b", BLOB)
    assert [entry.name for entry in await storage.list(layout.leases(BLOB))] == ["b"]
    assert not await storage.exists(layout.leases(OTHER))


async def test_a_sweep_leaves_no_empty_directory(tmp_path: Path) -> None:
    storage = FilesystemStorage(tmp_path)
    leases = Leases(storage)
    await leases.tell("a", BLOB)
    await leases.release("a", [BLOB])
    await leases.sweep()
    assert not await storage.exists(layout.leases(BLOB))


async def test_there_may_be_nothing_to_sweep(leases: Leases) -> None:
    await leases.sweep()


def test_a_lease_names_its_repository() -> None:
    entry = layout.lease(BLOB, "team/app-1/x.y").rpartition("/")[2]
    assert layout.leaseholder(entry) == "team/app-1/x.y"
