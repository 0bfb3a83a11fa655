"""All orders in which the storage calls of several coroutines can happen.

Every call of the storage is a scheduling point; between two points a coroutine runs alone, as it
does in a process of its own beside others. The search is depth-first over which actor goes on, and
begins anew for each order, since coroutines can't be copied. Two reductions leave orders out that
can't differ in their outcome:

* A call on a path that no other actor ever touches is no choice. What actors touch is collected as
  the search goes on; if it grows to where a choice was left out, the search begins anew.
* Of two neighbouring calls that commute only one order is looked at (sleep sets). Source: P.
  Godefroid, Partial-Order Methods for the Verification of Concurrent Systems, LNCS 1032 (1996),
  chapter 5.
"""

import re
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from dockyard.errors import PathUnknownError, StorageError
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Amendment, Entry, Reader, Stamp, Writer


IDENTIFIER: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What is chosen by chance in a path: the name of an upload."""

ITEM: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
"""What is chosen by time in a path: the name of an item of the trash."""

T = TypeVar("T")

Actor = Coroutine[Any, Any, None]


@dataclass(frozen=True, slots=True)
class Step:
    """A storage call that is about to happen.

    Attributes:
        call: its name.
        paths: what it touches.
        writes: whether it changes anything there.
        lock: whether it is the taking of a lock; `paths` is its name then.
    """

    call: str
    paths: tuple[str, ...]
    writes: bool
    lock: bool = False

    def __await__(self) -> Generator["Step", None, None]:
        yield self

    def commutes_with(self, other: "Step") -> bool:
        """Return whether the order of the two can't matter."""
        if self.lock != other.lock or not (self.writes or other.writes):
            return True
        return not any(_overlap(mine, theirs) for mine in self.paths for theirs in other.paths)


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


class Killed(BaseException):
    """The process that an actor stands for is gone."""


class SteppedStorage:
    """A storage in memory, each of whose calls waits for its turn. See `Storage`."""

    def __init__(self) -> None:
        self.inner: Final = InMemoryStorage()
        self.holders: Final[dict[str, list[bool]]] = {}
        self.stepped = False
        self.killing = False
        self.epoch: Final = ""

    async def _turn(self, call: str, *paths: str, writes: bool = False, lock: bool = False) -> None:
        if self.killing:
            raise Killed
        if self.stepped:
            known = (IDENTIFIER.sub("upload", path) for path in paths)
            await Step(call, tuple(ITEM.sub("item", path) for path in known), writes, lock)

    def may_go(self, step: Step) -> bool:
        """Return whether a lock that is waited for is free."""
        holders = self.holders.get(step.paths[0]) if step.lock else None
        return not holders or not (step.writes or any(holders))

    async def get(self, path: str, limit: int) -> bytes:
        await self._turn("get", path)
        return await self.inner.get(path, limit)

    async def put(self, path: str, content: bytes) -> None:
        await self._turn("put", path, writes=True)
        await self.inner.put(path, content)

    async def put_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        for path, content in objects:
            await self.put(path, content)

    async def open(self, path: str) -> Reader:
        await self._turn("open", path)
        return await self.inner.open(path)

    @asynccontextmanager
    async def append(self, path: str) -> AsyncGenerator[Writer]:
        await self._turn("append", path, writes=True)
        async with self.inner.append(path) as writer:
            yield writer

    async def create(self, path: str, content: bytes = b"") -> None:
        await self._turn("create", path, writes=True)
        await self.inner.create(path, content)

    async def publish(
        self, source: str, target: str, ahead: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        await self.put_all(ahead)
        await self._turn("publish", source, target, writes=True)
        await self.inner.publish(source, target)

    async def move(self, source: str, target: str) -> None:
        await self._turn("move", source, target, writes=True)
        await self.inner.move(source, target)

    async def move_all(self, moves: Sequence[tuple[str, str]]) -> Mapping[str, StorageError | None]:
        results: dict[str, StorageError | None] = {}
        for source, target in moves:
            results[source] = None
            try:
                await self.move(source, target)
            except PathUnknownError as error:
                results[source] = error
        return results

    async def note(self, path: str, mark: bytes) -> None:
        await self._turn("note", path, writes=True)
        await self.inner.note(path, mark)

    def note_at_once(self, path: str, mark: bytes, lock: tuple[str, str]) -> bool:
        return self.inner.note_at_once(path, mark, lock)

    async def amend(
        self, paths: Sequence[str], tail: int, amendment: Amendment
    ) -> Mapping[str, StorageError]:
        # Others may come between any two of them, and between reading and adding.
        for path in paths:
            try:
                content = await self.get(path, sys.maxsize)
            except PathUnknownError:
                continue
            added = amendment(content[-tail:], len(content) <= tail)
            if added:
                await self.note(path, added)
        return {}

    async def age(self, path: str) -> float:
        await self._turn("age", path)
        return await self.inner.age(path)

    async def modified(self, path: str) -> datetime:
        await self._turn("modified", path)
        return await self.inner.modified(path)

    async def size(self, path: str) -> int:
        await self._turn("size", path)
        return await self.inner.size(path)

    async def exists(self, path: str) -> bool:
        await self._turn("exists", path)
        return await self.inner.exists(path)

    async def list(self, path: str) -> Iterable[Entry]:
        await self._turn("list", path)
        return await self.inner.list(path)

    async def names(self, path: str) -> Sequence[str]:
        await self._turn("names", path)
        return await self.inner.names(path)

    async def stamp(self, path: str) -> Stamp | None:
        await self._turn("stamp", path)
        return await self.inner.stamp(path)

    async def witness(self, paths: Sequence[str]) -> None:
        """Nothing to look at twice: the storage inside is in memory."""

    async def stamps(self, directory: str, names: Sequence[str]) -> Sequence[Stamp | None]:
        await self._turn("stamps", *(f"{directory}/{name}" for name in names))
        return await self.inner.stamps(directory, names)

    async def exist(self, directory: str, names: Sequence[str]) -> Sequence[bool]:
        # Each look by itself: others may come between any two of them.
        return [await self.exists(f"{directory}/{name}") for name in names]

    async def delete(self, path: str) -> None:
        await self._turn("delete", path, writes=True)
        await self.inner.delete(path)

    async def delete_all(self, paths: Collection[str]) -> None:
        for path in paths:
            await self._turn("delete_all", path, writes=True)
            await self.inner.delete_all([path])

    @asynccontextmanager
    async def lock(self, kind: str, name: str, *, shared: bool = False) -> AsyncGenerator[None]:
        key = f"{kind} {name}"
        await self._turn("lock", key, writes=not shared, lock=True)
        holders = self.holders.setdefault(key, [])
        holders.append(not shared)
        try:
            yield
        finally:
            holders.remove(not shared)


@dataclass(slots=True)
class _Choice:
    """A point of an order at which more than one actor might go on.

    Attributes:
        enabled: the next step of each actor that may go on.
        asleep: steps that need not be taken here, since an order looked at before has them first.
        chosen: who goes on.
        before: who went on last.
        spent: how often an actor that could have gone on was interrupted up to here.
    """

    enabled: dict[str, Step]
    asleep: dict[str, Step]
    chosen: str
    before: str | None
    spent: int

    def is_interruption(self, actor: str) -> bool:
        return self.before is not None and actor != self.before and self.before in self.enabled


@dataclass(slots=True)
class Found:
    """What a search saw.

    Attributes:
        orders: orders looked at to their end.
        pruned: orders given up, since another one has the same outcome.
        steps: storage calls of the longest order.
        problems: what was wrong after an order, with the order's calls.
    """

    orders: int = 0
    pruned: int = 0
    steps: int = 0
    problems: list[tuple[list[str], list[str]]] = field(default_factory=list)


@dataclass(slots=True)
class Trial:
    """One run: the storage, the actors by name, and what is wrong once all have ended."""

    storage: SteppedStorage
    actors: dict[str, Actor]
    verdict: Callable[[], list[str]]


class Search:
    """Looks at every order of the actors that `prepare` returns, anew for each order.

    Args:
        prepare: makes a trial; each call makes the same.
        interruptions: how often an actor that could go on is interrupted in one order at most;
            `None`: no bound, the search is exhaustive. With a bound there are no sleep sets: the
            order that is left out for another one might be the only one within the bound.
        stop_at_first: end with the first order after which something is wrong.
        killed: the name of an actor that is killed, and after how many of its calls.
    """

    def __init__(
        self,
        prepare: Callable[[], Trial],
        *,
        interruptions: int | None = None,
        stop_at_first: bool = False,
        killed: tuple[str, int] | None = None,
    ) -> None:
        self._prepare = prepare
        self._interruptions = interruptions
        self._stop_at_first = stop_at_first
        self._killed = killed
        self._touched: Final[dict[str, set[Step]]] = {}
        self._local: Final[dict[tuple[str, Step], bool]] = {}
        self._known: dict[str, set[Step]] = {}
        self._widened = False

    def run(self) -> Found:
        """Search until there is no other order."""
        while True:
            self._local.clear()
            self._known = {actor: set(steps) for actor, steps in self._touched.items()}
            self._widened = False
            found = self._search()
            if not self._widened or (self._stop_at_first and found.problems):
                return found

    def _search(self) -> Found:
        found, path = Found(), list[_Choice]()
        while True:
            self._follow(path, found)
            if self._widened or (self._stop_at_first and found.problems):
                return found
            while path and not self._turn_to_next(path[-1]):
                path.pop()
            if not path:
                return found

    def _turn_to_next(self, choice: _Choice) -> bool:
        """Choose another actor at a point; return whether there is one."""
        choice.asleep[choice.chosen] = choice.enabled[choice.chosen]
        chosen = self._pick(choice)
        if chosen is None:
            return False
        choice.chosen = chosen
        return True

    def _pick(self, choice: _Choice) -> str | None:
        """Return who may go on, the one that went on last before others; `None`: nobody need."""
        for actor in sorted(choice.enabled, key=lambda name: (name != choice.before, name)):
            spent = choice.spent + choice.is_interruption(actor)
            if actor not in choice.asleep and (
                self._interruptions is None or spent <= self._interruptions
            ):
                return actor
        return None

    def _follow(self, path: list[_Choice], found: Found) -> None:
        """Run one order: the choices of `path`, then any, which are added to it."""
        order = _Order(self._prepare())
        while any(step is not None for step in order.waiting.values()):
            enabled = order.enabled()
            chosen = self._forced(enabled)
            if chosen is None:
                if order.position == len(path) and not self._add_choice(path, order, enabled):
                    found.pruned += 1
                    order.give_up()
                    return
                chosen = order.choose(path[order.position])
            step = enabled[chosen]
            asleep = order.asleep.items() if self._interruptions is None else ()
            order.asleep = {
                name: other
                for name, other in asleep
                if name != chosen and step.commutes_with(other)
            }
            self._note(chosen, step)
            order.take(chosen, step, self._killed)
        found.orders += 1
        found.steps = max(found.steps, len(order.taken))
        if problems := order.trial.verdict():
            found.problems.append((problems, order.taken))

    def _add_choice(self, path: list[_Choice], order: "_Order", enabled: dict[str, Step]) -> bool:
        """Add a choice to `path`; return whether anybody need go on."""
        choice = _Choice(enabled, dict(order.asleep), "", order.last, order.spent)
        first = self._pick(choice)
        if first is None:
            return False
        choice.chosen = first
        path.append(choice)
        return True

    def _note(self, actor: str, step: Step) -> None:
        """Note what an actor touches; if what was no choice is one now, the search is in vain."""
        touched = self._touched.setdefault(actor, set())
        if step not in touched:
            touched.add(step)
            self._widened |= any(
                local and name != actor and not step.commutes_with(other)
                for (name, other), local in self._local.items()
            )

    def _forced(self, enabled: dict[str, Step]) -> str | None:
        """Return an actor whose next call can't matter to the others, as far as is known."""
        return next((name for name, step in enabled.items() if self._is_local(name, step)), None)

    def _is_local(self, actor: str, step: Step) -> bool:
        key = (actor, step)
        if key not in self._local:
            self._local[key] = all(
                step.commutes_with(other)
                for name, steps in self._known.items()
                if name != actor
                for other in steps
            )
        return self._local[key]


class _Order:
    """One order, as far as it has come."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.waiting = {name: _advance(actor) for name, actor in trial.actors.items()}
        self.taken: list[str] = []
        self.position = 0
        self.last: str | None = None
        self.asleep: dict[str, Step] = {}
        self.spent = 0
        self._calls = dict.fromkeys(trial.actors, 0)

    def enabled(self) -> dict[str, Step]:
        """Return the next step of each actor that may go on."""
        found = {
            name: step
            for name, step in self.waiting.items()
            if step is not None and self.trial.storage.may_go(step)
        }
        assert found, f"deadlock after {self.taken}"
        return found

    def choose(self, choice: _Choice) -> str:
        """Pass a point of choice; return who goes on."""
        self.position += 1
        self.asleep = choice.asleep
        self.spent = choice.spent + choice.is_interruption(choice.chosen)
        self.last = choice.chosen
        return choice.chosen

    def take(self, chosen: str, step: Step, killed: tuple[str, int] | None) -> None:
        """Let an actor take its step."""
        self.taken.append(f"{chosen}: {step.call} {' -> '.join(step.paths)}")
        self._calls[chosen] += 1
        self.waiting[chosen] = _advance(self.trial.actors[chosen])
        if killed == (chosen, self._calls[chosen]):
            _kill(self.trial, self.trial.actors[chosen])
            self.waiting[chosen] = None

    def give_up(self) -> None:
        """End all actors."""
        for actor in self.trial.actors.values():
            _kill(self.trial, actor)


def _advance(actor: Actor) -> Step | None:
    """Let an actor go on to its next storage call; return that, or `None` at its end."""
    try:
        while (step := actor.send(None)) is None:
            pass  # it only let others go on
    except StopIteration:
        return None
    assert isinstance(step, Step), f"{step!r} is no storage call"
    return step


def _kill(trial: Trial, actor: Actor) -> None:
    """End an actor where it is: what it would still do to the storage does not happen."""
    trial.storage.killing = True
    with suppress(Killed, StopIteration, RuntimeError):  # has ended, was never begun, ends now
        actor.throw(Killed)
    trial.storage.killing = False


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that never waits for its turn."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            value: T = stop.value
            return value


async def pieces(*chunks: bytes) -> AsyncIterator[list[bytes]]:
    """Yield `chunks`, as a request's body comes."""
    for chunk in chunks:
        yield [chunk]
