"""API keys in the memory of a worker."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from dockyard.auth.accounts import Account
from dockyard.auth.actions import Action
from dockyard.auth.principal import user
from dockyard.core.keys import Keys, KeyWish
from dockyard.core.known_keys import FRESH_SECONDS, USE_NOTED, KnownKeys
from dockyard.errors import StateError
from dockyard.state.database import Database
from dockyard.state.interface import KeyRecord
from tests.inprocess import recorded_log
from tests.unit.core.trees import NOW


STRANGER = "dky_" + "x" * 32


class Watched(Database):
    """A database that counts how often it is looked at, and fails while it is broken."""

    def __init__(self) -> None:
        super().__init__(None)
        self.looks = 0
        self.told: list[Mapping[str, datetime]] = []
        self.broken = False

    @override
    async def keys_since(self, version: str) -> tuple[str, Sequence[KeyRecord] | None]:
        self.looks += 1
        self._fail()
        return await super().keys_since(version)

    @override
    async def note_keys_used(self, used: Mapping[str, datetime]) -> None:
        self._fail()
        if used:
            self.told.append(used)
        await super().note_keys_used(used)

    def _fail(self) -> None:
        if self.broken:
            raise StateError("state.db", "disk I/O error")


class People:
    def __init__(self) -> None:
        self.names = {"alice", "bob"}

    def find(self, login: str) -> Account | None:
        return Account(user(login), "hash") if login in self.names else None


class Worker:
    """A worker, with clocks that stand still unless they are set."""

    def __init__(self) -> None:
        self.state = Watched()
        self.people = People()
        self.now = NOW
        self.seconds = 1000.0
        self.keys = Keys(self.state, self.people, lambda: self.now)
        self.known = KnownKeys(self.state, self.people, lambda: self.now, lambda: self.seconds)

    async def make(self, name: str = "deploy", **wish: Any) -> str:  # noqa: ANN401 -- of `KeyWish`
        secret, _ = await self.keys.create(KeyWish(name=name, owner="alice", **wish))
        return secret

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)


@pytest.fixture
async def worker() -> Worker:
    return Worker()


async def test_a_key_stands_for_its_owner_within_its_scope(worker: Worker) -> None:
    secret = await worker.make(actions=["pull"], repositories=["team/*"])
    account = await worker.known.by_secret(secret)
    assert account is not None
    assert account.principal.login == "alice"
    scope = account.principal.scope
    assert scope is not None
    assert scope.name == "deploy"
    assert scope.covers(Action.PULL, "team/a")
    assert not scope.covers(Action.PULL, "other")
    assert not scope.covers(Action.PUSH, "team/a")
    assert await worker.known.by_identifier(scope.key) == account
    assert secret not in repr(account)


async def test_a_busy_key_costs_one_look_while_what_is_known_is_fresh(worker: Worker) -> None:
    secret = await worker.make()
    for _ in range(5):
        assert await worker.known.by_secret(secret)
    assert worker.state.looks == 1
    worker.pass_(FRESH_SECONDS + 0.1)
    assert await worker.known.by_secret(secret)
    assert worker.state.looks == 2


async def test_strangers_at_once_wait_for_one_look(worker: Worker) -> None:
    assert await worker.known.by_secret(STRANGER) is None
    before = worker.state.looks
    worker.pass_(1)
    found = await asyncio.gather(*(worker.known.by_secret(STRANGER) for _ in range(50)))
    assert found == [None] * 50
    assert worker.state.looks == before + 1


async def test_a_key_made_since_the_last_look_is_known(worker: Worker) -> None:
    assert await worker.known.by_secret(STRANGER) is None
    worker.pass_(0.5)
    assert await worker.known.by_secret(await worker.make())


async def test_a_revoked_one_is_gone_after_two_seconds(worker: Worker) -> None:
    secret = await worker.make()
    assert await worker.known.by_secret(secret)
    await worker.keys.revoke("deploy")
    worker.pass_(FRESH_SECONDS + 0.1)
    assert await worker.known.by_secret(secret) is None


async def test_one_that_expires_is_gone_at_that_moment(worker: Worker) -> None:
    secret = await worker.make(expires=NOW + timedelta(seconds=1))
    assert await worker.known.by_secret(secret)
    worker.now += timedelta(seconds=1)
    assert await worker.known.by_secret(secret) is None


async def test_one_without_its_owner_is_gone(worker: Worker) -> None:
    secret = await worker.make()
    worker.people.names.clear()
    assert await worker.known.by_secret(secret) is None


async def test_what_can_not_be_read_is_told(worker: Worker) -> None:
    secret = await worker.make()
    worker.state.broken = True
    with pytest.raises(StateError):
        await worker.known.by_secret(secret)
    worker.state.broken = False
    assert await worker.known.by_secret(secret)


class TestUse:
    async def test_it_is_written_down_once_a_minute(self, worker: Worker) -> None:
        secret = await worker.make()
        for _ in range(3):
            await worker.known.by_secret(secret)
        await worker.known.write()
        assert (await worker.keys.find("deploy")).used == NOW
        worker.now += USE_NOTED / 2
        await worker.known.by_secret(secret)
        await worker.known.write()
        assert len(worker.state.told) == 1
        worker.now += USE_NOTED
        await worker.known.by_secret(secret)
        await worker.known.write()
        assert (await worker.keys.find("deploy")).used == worker.now

    async def test_a_stranger_is_no_use(self, worker: Worker) -> None:
        await worker.known.by_secret(STRANGER)
        await worker.known.write()
        assert worker.state.told == []

    async def test_that_failing_is_told_once_and_made_up_for(self, worker: Worker) -> None:
        await worker.known.by_secret(await worker.make())
        worker.state.broken = True
        with recorded_log() as log:
            await worker.known.write()
            await worker.known.write()
        assert [entry["event"] for entry in log] == ["use of keys is not noted"]
        worker.state.broken = False
        await worker.known.write()
        assert (await worker.keys.find("deploy")).used == NOW
