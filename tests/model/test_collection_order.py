"""The collector beside everybody else, in every order of their storage calls.

The code is the real one, on a storage in memory; each actor has use cases of its own, as it has in
another process. After every order: each manifest that was acknowledged is served with all it needs,
and each blob that a client was told of is there for it. What was restored from the trash is whole,
and what the trash still has can be restored whole.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from dockyard.clock import Clock, utc_now
from dockyard.core.blobs import Blobs
from dockyard.core.collector import Collected, CollectionObserver, Collector, Plan
from dockyard.core.leases import Leases
from dockyard.core.manifests import ManifestPush, Manifests
from dockyard.core.marking import Marking, Rules
from dockyard.core.policy import Policy
from dockyard.core.removals import Removals, Restored
from dockyard.core.tags import Tags
from dockyard.core.trash import TIME_FORM, Removal, Trash
from dockyard.core.uploads import Uploads
from dockyard.errors import (
    BlobUnknownError,
    ItemUnknownError,
    ManifestBlobsUnknownError,
    ManifestUnknownError,
)
from dockyard.oci import manifest as grammar
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Manifest
from dockyard.storage import layout
from dockyard.storage.interface import Storage
from tests.model.interleaving import Found, Search, SteppedStorage, Trial, finish, pieces
from tests.parts.collection import Silent
from tests.parts.images import OCI_CONFIG, OCI_MANIFEST, Content, Image, index, manifest


LAYER: Final = Content(OCI_CONFIG, b"{}")
"""The only blob: each more multiplies the orders, and shows nothing new."""


def image_of(*blobs: Content, **fields: object) -> Image:
    """Return an image whose configuration is the first of `blobs`, and its layers the others."""
    config, *layers = blobs
    described = [each.descriptor() for each in layers]
    top = manifest(OCI_MANIFEST, config=config.descriptor(), layers=described, **fields)
    return Image(top, blobs)


IMAGE: Final = image_of(LAYER)
SIBLING: Final = image_of(LAYER, annotations={"another": "manifest"})
INDEX: Final = index([IMAGE])
KEEP: Final = timedelta(days=7)
"""How long the trash keeps what was removed, where it does."""

OTHER: Final = Content(OCI_CONFIG, b"{ }")
REFERRER: Final = image_of(LAYER, subject=IMAGE.manifest.descriptor())


class LooksBeforeMoving(Collector):
    """The wrong order: looks again before it moves a blob, and not after."""

    @override
    async def _take_away(self, going: Sequence[Digest], run: Any) -> set[Digest]:
        marks = await Marking(self._storage, Silent(), Rules()).run()
        held = await self._leases.held(going)
        free = [digest for digest in going if digest not in marks.blobs and digest not in held]
        return await super()._take_away(free, run)

    @override
    async def _second_look(self, run: Any) -> None:
        pass


class LooksBeforeLinking(Manifests):
    """The wrong order: looks for the blobs before the link is written, and not after."""

    @override
    async def _check_again(self, push: ManifestPush, digest: Digest, manifest: Manifest) -> None:
        pass


class LooksBeforeRestoring(Removals):
    """The wrong order: looks whether a manifest is whole in the trash, then moves it back."""

    @override
    async def restore(self, identifier: str) -> Restored:
        item = await self._trash.item(identifier)
        if item is None:
            raise ItemUnknownError(identifier)
        for needed in IMAGE.blobs:
            if not await self._manifests._blobs.has(  # noqa: SLF001 -- the wrong order
                item.name, Digest.parse(needed.digest)
            ):
                raise ItemUnknownError(identifier)
        restored = Restored(item.name)
        for digest, place in item.manifests.items():
            if await self._move_unless_there(place, layout.revision(item.name, digest)):
                restored.manifests.append(digest)
        return restored


class LooksAtNoTrash(Collector):
    """The wrong order: what was removed is looked at once, before the repositories are."""

    @override
    async def _second_look(self, run: Any) -> None:
        vars(run.marking.discarded)["_trash"] = None
        await super()._second_look(run)


class BlindCollector(Collector):
    """Does not look at the trash at all; what is restored is safe all the same."""

    @override
    async def _expire(self, marking: Marking, plan: Plan) -> list[str]:
        found = await super()._expire(marking, plan)
        vars(marking.discarded)["_trash"] = None
        return found


class DestroysLeftovers(Collector):
    """The wrong order: what an earlier collection left is destroyed before anything is marked."""

    @override
    async def run(self, observer: CollectionObserver, plan: Plan) -> Collected:
        await self._trash.empty(await self._trash.blobs())
        return await super().run(observer, plan)


class LooksBeforeTelling(Blobs):
    """The wrong order: takes the lease when it has seen the blob."""

    @override
    async def tell(self, name: str, digest: Digest, client: str = "") -> Any:
        found = await self.open(name, digest)
        await self._leases.tell(name, digest, client)
        return found


@dataclass
class Makers:
    """What is made of each part: the real one, or one with a wrong order."""

    collector: type[Collector] = Collector
    manifests: type[Manifests] = Manifests
    blobs: type[Blobs] = Blobs
    removals: type[Removals] = Removals


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long things stay in the trash.

    Attributes:
        clients: what is removed, as whoever removes or restores it sees it.
        collector: likewise, as the collector sees it.
        delay: blobs that a collection took.
        hurries: how often the collector looks at its clock before a year has passed.
    """

    clients: timedelta = timedelta(0)
    collector: timedelta = timedelta(0)
    delay: timedelta = timedelta(0)
    hurries: int | None = None

    @property
    def keeps(self) -> bool:
        """Whether what is in the trash at the end has not expired."""
        return bool(self.clients and self.collector) and self.hurries is None


NOTHING_KEPT: Final = Retention()
KEPT: Final = Retention(clients=KEEP, collector=KEEP)
"""`serve`, and the command with ``--keep-trash``."""
DELAYED: Final = Retention(clients=KEEP, collector=KEEP, delay=KEEP)
EMPTIED: Final = Retention(clients=KEEP)
"""The command without it."""
EXPIRING: Final = Retention(clients=KEEP, collector=KEEP, hurries=1)
"""An item expires when the collector has just looked for those that have."""


class World:
    """A registry's storage, what its clients know, and new processes that work on it.

    Attributes:
        acknowledged: manifests that were stored and not deleted, with their repositories.
        told: blobs that a client may rely on, with their repositories.
        problems: what went wrong in an actor.
    """

    def __init__(self, makers: Makers, retention: Retention = NOTHING_KEPT) -> None:
        self.storage: Final = SteppedStorage()
        self.retention: Final = retention
        self.acknowledged: Final[set[tuple[str, Digest]]] = set()
        self.told: Final[set[tuple[str, Digest]]] = set()
        self.problems: Final[list[str]] = []
        self.results: Final[list[Collected]] = []
        self._makers = makers
        self._items = count()

    def process(self, *, collects: bool = False) -> "Process":
        """Return a new process; `collects` if it is the collector's."""
        kept = self.retention.collector if collects else self.retention.clients
        clock = Hurrying(self.retention.hurries) if collects else utc_now
        return Process(self, self._makers, Numbered(self.storage, kept, clock, self._items))

    def verdict(self) -> list[str]:
        """Return what is wrong now that all actors have ended."""
        self.storage.stepped = False
        found = list(self.problems)
        process = self.process()
        for name, digest in sorted(self.told):
            if not finish(process.is_told_again(name, digest)):
                found.append(f"told of {digest} in {name}, which is not there")
        for name, digest in sorted(self.acknowledged):
            found += finish(process.missing(name, digest))
        if self.retention.keeps:
            found += finish(process.unrestorable())
        return found


class Numbered(Trash):
    """A trash whose items are called alike each time."""

    def __init__(
        self, storage: Storage, keep: timedelta, clock: Clock, numbers: Iterator[int]
    ) -> None:
        super().__init__(storage, keep, clock)
        self._numbers = numbers

    @override
    def removal(self, name: str) -> Removal:
        if not self._keep:
            return super().removal(name)
        return Removal(
            self._storage, name, f"{self._clock():{TIME_FORM}}-{next(self._numbers):08x}"
        )


class Hurrying:
    """A clock that jumps by a year once it was looked at so often."""

    def __init__(self, looks: int | None) -> None:
        self._left = looks

    def __call__(self) -> datetime:
        if self._left is None:
            return utc_now()
        self._left -= 1
        return utc_now() if self._left >= 0 else utc_now() + timedelta(days=365)


class Process:
    """What one worker, or one collector, does; knows nothing of the others."""

    def __init__(self, world: World, makers: Makers, trash: Trash) -> None:
        storage = world.storage
        leases = Leases(storage)
        tags = Tags(storage, trash)
        self.world = world
        self.trash = trash
        self.client = f"client {id(self)}"
        self.blobs = makers.blobs(storage, leases, trash)
        self.manifests = makers.manifests(storage, self.blobs, tags, Policy(), leases, trash)
        self.uploads = Uploads(storage, leases, utc_now)
        self.tags = tags
        self.removals = makers.removals(storage, self.manifests, tags, trash)
        self.collector = makers.collector(storage, self.manifests, leases, trash)

    async def collect(self, *, untagged: bool = False) -> None:
        plan = Plan(delete_untagged=untagged, delay=self.world.retention.delay)
        result = await self.collector.run(Silent(), plan)
        self.world.results.append(result)
        if result.doubts:
            self.world.problems.append(f"doubts: {result.doubts}")
        for name, digest in result.manifests:
            self.world.acknowledged.discard((name, digest))  # untagged ones, by intention

    async def upload(self, name: str, content: Content) -> None:
        digest = Digest.parse(content.digest)
        await self.uploads.store(name, digest, pieces(content.body), self.client)
        self.world.told.add((name, digest))

    async def head(self, name: str, content: Content) -> bool:
        """Ask for a blob as a client does that would not push it again."""
        digest = Digest.parse(content.digest)
        try:
            (await self.blobs.tell(name, digest, self.client)).close()
        except BlobUnknownError:
            return False
        self.world.told.add((name, digest))
        return True

    async def mount(self, name: str, content: Content, source: str) -> bool:
        digest = Digest.parse(content.digest)
        if not await self.blobs.mount(name, digest, source, self.client):
            return False
        self.world.told.add((name, digest))
        return True

    async def put(self, name: str, top: Image, *tags: str, may_fail: bool = False) -> bool:
        push = ManifestPush(
            name, top.manifest.body, top.manifest.media_type, None, tags, client=self.client
        )
        try:
            digest, _ = await self.manifests.put(push)
        except ManifestBlobsUnknownError as error:
            if not may_fail:
                self.world.problems.append(f"{name} is told of blobs, and refused: {error}")
            return False
        self.world.acknowledged.add((name, digest))
        for each in top.blobs:
            self.world.told.discard((name, Digest.parse(each.digest)))
        return True

    async def push(self, name: str, top: Image, *tags: str) -> None:
        """Push as clients do: ask for each blob, upload what is not there, then the manifest."""
        for content in top.blobs:
            if not await self.head(name, content):
                await self.upload(name, content)
        await self.put(name, top, *tags)

    async def delete(self, name: str, top: Image) -> None:
        digest = Digest.parse(top.digest)
        self.world.acknowledged.discard((name, digest))
        await self.manifests.delete(name, digest)

    async def remove(self, name: str) -> None:
        """Remove a repository."""
        for known in [each for each in self.world.acknowledged if each[0] == name]:
            self.world.acknowledged.discard(known)
        await self.removals.remove_repository(name)

    async def restore(self, *, may_be_gone: bool = False, may_lack: bool = False) -> None:
        """Restore the oldest item of the trash."""
        for item in (await self.removals.items())[:1]:
            try:
                restored = await self.removals.restore(item.identifier)
            except ItemUnknownError:
                if not may_be_gone:
                    self.world.problems.append(f"{item.identifier} is gone")
                return
            if restored.incomplete and not may_lack:
                self.world.problems.append(f"not whole: {restored.incomplete}")
            self.world.acknowledged.update((item.name, digest) for digest in restored.manifests)
            for tag in restored.tags:
                await self.expect(item.name, tag)

    async def rollback(self, name: str, tag: str, top: Image, *, may_fail: bool = False) -> None:
        try:
            await self.removals.rollback(name, tag, Digest.parse(top.digest))
        except ManifestUnknownError as error:
            if not may_fail:
                self.world.problems.append(f"not rolled back: {error}")
            return
        await self.expect(name, tag)

    async def expect(self, name: str, tag: str) -> None:
        """Note that a tag is there, so that what it points to must be."""
        try:
            self.world.acknowledged.add((name, await self.tags.resolve(name, tag)))
        except ManifestUnknownError as error:
            self.world.problems.append(f"restored, and not there: {error}")

    async def unrestorable(self) -> list[str]:
        """Return what can't be restored whole of all that the trash has."""
        found: list[str] = []
        for item in await self.removals.items():
            try:
                restored = await self.removals.restore(item.identifier)
            except ItemUnknownError:
                continue  # restoring another one took all that was in it
            found += [f"{item.name}: {why}" for why in restored.incomplete.values()]
            for digest in restored.manifests:
                found += await self.missing(item.name, digest)
            for tag in restored.tags:
                found += await self.missing(item.name, await self.tags.resolve(item.name, tag))
        return found

    async def is_told_again(self, name: str, digest: Digest) -> bool:
        try:
            (await self.blobs.open(name, digest)).close()
        except BlobUnknownError:
            return False
        return True

    async def missing(self, name: str, digest: Digest) -> list[str]:
        """Return what can't be read of a manifest and all below it."""
        try:
            stored = await self.manifests.get(name, digest)
        except ManifestUnknownError:
            return [f"manifest {digest} of {name} is lost"]
        found: list[str] = []
        parsed = grammar.parse(stored.content, stored.media_type)
        config = () if parsed.config is None else (parsed.config,)
        needed = [each.digest for each in (*config, *parsed.layers)]
        lost = [each for each in needed if not await self.is_told_again(name, each)]
        found += [f"blob {each} of {name} is lost" for each in lost]
        for child in parsed.children:
            found += await self.missing(name, child.digest)
        return found


Script = Callable[[Process], Awaitable[None]]


@dataclass(frozen=True)
class Scene:
    """What is there before, and who then does what at once, beside the collector."""

    before: Script
    clients: tuple[Script, ...]
    untagged: bool = False
    bound: int | None = None
    again: bool = False
    retention: Retention = NOTHING_KEPT


async def run(process: Process, script: Script) -> None:
    await script(process)


def prepare(scene: Scene, makers: Makers) -> Trial:
    """Return the actors of a scene, with nobody told of anything within the grace period."""
    world = World(makers, scene.retention)
    finish(run(world.process(), scene.before))
    world.told.clear()
    forget(world.storage)
    actors: dict[str, Coroutine[Any, Any, None]] = {
        f"client {number}": run(world.process(), client)
        for number, client in enumerate(scene.clients)
    }
    actors["collector"] = world.process(collects=True).collect(untagged=scene.untagged)
    world.storage.stepped = True

    def verdict() -> list[str]:
        found = world.verdict()
        if scene.again:
            finish(world.process(collects=True).collect(untagged=scene.untagged))
            found += world.verdict()
        return found

    return Trial(world.storage, actors, verdict)


def forget(storage: SteppedStorage) -> None:
    """Let all leases expire."""
    finish(Leases(storage, grace=timedelta(seconds=-1)).sweep())


# What was there before


async def orphaned(process: Process) -> None:
    """Blobs with links in two repositories that no manifest needs."""
    for name in ("a", "b"):
        for content in IMAGE.blobs:
            await process.upload(name, content)


async def untagged(process: Process) -> None:
    """An image without a tag, beside one with: `-m` takes it."""
    await process.push("a", IMAGE)


async def tagged(process: Process) -> None:
    await process.push("a", IMAGE, "v1")


async def removed(process: Process) -> None:
    """An image in the trash, beside one that keeps the repository."""
    await process.push("a", IMAGE, "v1")
    await process.delete("a", IMAGE)


async def repository_removed(process: Process) -> None:
    await process.push("a", IMAGE, "v1")
    await process.remove("a")


async def tag_removed(process: Process) -> None:
    """The tag is in the trash; its manifest has none now."""
    await process.push("a", IMAGE, "v1")
    await process.tags.delete("a", "v1")


async def tag_moved(process: Process) -> None:
    """`IMAGE` is what the tag pointed to before, and nothing else keeps it."""
    await process.push("a", IMAGE, "v1")
    await process.push("a", SIBLING, "v1")


async def index_tagged(process: Process) -> None:
    """Its platform has no tag of its own."""
    await process.push("a", IMAGE)
    await process.put("a", INDEX, "v1")


async def killed(process: Process) -> None:
    """A collection was killed: what a manifest needs, and what nothing does, is in the trash."""
    await process.push("a", IMAGE, "v1")
    await process.upload("b", OTHER)
    for content in (LAYER, OTHER):
        await process.trash.take(Digest.parse(content.digest))


# What clients do


async def push(process: Process) -> None:
    await process.push("a", IMAGE, "v1")


async def upload(process: Process) -> None:
    for content in IMAGE.blobs:
        await process.upload("a", content)
    await process.put("a", IMAGE)


async def head_only(process: Process) -> None:
    await process.head("a", LAYER)


async def upload_only(process: Process) -> None:
    await process.upload("a", LAYER)


async def mount(process: Process) -> None:
    for content in IMAGE.blobs:
        if not await process.mount("c", content, "b"):
            await process.upload("c", content)
    await process.put("c", IMAGE, "v1")


async def mount_only(process: Process) -> None:
    await process.mount("c", LAYER, "b")


async def put_blindly(process: Process) -> None:
    """Rely on what nobody told: that may be refused, but not acknowledged and lost."""
    await process.put("a", IMAGE, "v1", may_fail=True)


async def set_tag(process: Process) -> None:
    await process.put("a", IMAGE, "v2", may_fail=True)


async def put_index(process: Process) -> None:
    await process.put("a", INDEX, "v2", may_fail=True)


async def put_referrer(process: Process) -> None:
    await process.put("a", REFERRER, may_fail=True)


async def delete_and_push(process: Process) -> None:
    await process.delete("a", IMAGE)
    await process.push("a", IMAGE, "v2")


async def push_and_delete(process: Process) -> None:
    await process.push("a", SIBLING, "other")
    await process.delete("a", SIBLING)


async def move_tag_and_back(process: Process) -> None:
    await process.push("a", SIBLING, "v1")
    await process.put("a", IMAGE, "v1", may_fail=True)


async def delete(process: Process) -> None:
    await process.delete("a", IMAGE)


async def delete_index(process: Process) -> None:
    await process.delete("a", INDEX)


async def remove(process: Process) -> None:
    await process.remove("a")


async def remove_and_push(process: Process) -> None:
    await process.remove("a")
    await process.push("a", IMAGE, "v2")


async def restore(process: Process) -> None:
    await process.restore()


async def restore_if_there(process: Process) -> None:
    await process.restore(may_be_gone=True)


async def pull_and_restore(process: Process) -> None:
    """In a worker that has the manifest in its cache, as after a pull."""
    digest = Digest.parse(IMAGE.digest)
    process.manifests._keep(digest, IMAGE.manifest.body)  # noqa: SLF001 -- a pull adds steps
    await process.restore(may_be_gone=True, may_lack=True)


async def delete_and_restore(process: Process) -> None:
    await process.delete("a", IMAGE)
    await process.restore()


async def roll_back(process: Process) -> None:
    await process.rollback("a", "v1", IMAGE)


async def roll_back_if_there(process: Process) -> None:
    await process.rollback("a", "v1", IMAGE, may_fail=True)


async def upload_other(process: Process) -> None:
    await process.upload("b", OTHER)


SCENES: Final = {
    "push of what is about to go": Scene(orphaned, (push,), bound=2),
    "HEAD of what is about to go": Scene(orphaned, (head_only,)),
    "upload without a manifest": Scene(orphaned, (upload_only,)),
    "mount of what is about to go": Scene(orphaned, (mount,), bound=2),
    "mount without a manifest": Scene(orphaned, (mount_only,)),
    "manifest of what nobody was told of": Scene(orphaned, (put_blindly,)),
    "index while its child goes": Scene(untagged, (put_index,), untagged=True),
    "referrer while its subject goes": Scene(untagged, (put_referrer,), untagged=True),
    "tag while untagged ones go": Scene(untagged, (set_tag,), untagged=True),
    "upload of what is about to go": Scene(orphaned, (upload,), bound=2),
    "delete and push again": Scene(tagged, (delete_and_push,), bound=2),
    "delete and push again, with -m": Scene(tagged, (delete_and_push,), untagged=True, bound=2),
    "tag moved and back, with -m": Scene(tagged, (move_tag_and_back,), untagged=True, bound=2),
    "push again, with -m": Scene(untagged, (push,), untagged=True, bound=2),
    "two pushers of one layer": Scene(orphaned, (upload_only, upload_only), bound=1),
    "push beside push and delete": Scene(orphaned, (upload, push_and_delete), bound=1),
    "delete into the trash": Scene(tagged, (delete,), bound=2, retention=KEPT),
    "delete into the trash, with -m": Scene(
        tagged, (delete,), untagged=True, bound=2, retention=KEPT
    ),
    "delete of an index, with -m": Scene(
        index_tagged, (delete_index,), untagged=True, bound=2, retention=KEPT
    ),
    "delete while the trash is emptied": Scene(tagged, (delete,), bound=2, retention=EMPTIED),
    "delete and restore": Scene(tagged, (delete_and_restore,), bound=1, retention=KEPT),
    "restore": Scene(removed, (restore,), bound=2, retention=KEPT),
    "restore, with -m": Scene(removed, (restore,), untagged=True, bound=2, retention=KEPT),
    "restore while the trash is emptied": Scene(
        removed, (restore_if_there,), bound=2, retention=EMPTIED
    ),
    "restore while it is emptied, with -m": Scene(
        removed, (restore_if_there,), untagged=True, bound=2, retention=EMPTIED
    ),
    "restore of what expires": Scene(removed, (pull_and_restore,), bound=2, retention=EXPIRING),
    "restore of a tag, with -m": Scene(
        tag_removed, (restore,), untagged=True, bound=1, retention=KEPT
    ),
    "rollback, with -m": Scene(tag_moved, (roll_back,), untagged=True, bound=2, retention=KEPT),
    "rollback, with -m, without a trash": Scene(
        tag_moved, (roll_back_if_there,), untagged=True, bound=2
    ),
    "read of what a killed collection left": Scene(
        killed, (head_only,), bound=2, retention=DELAYED, again=True
    ),
    "upload of what a killed collection left": Scene(
        killed, (upload_other,), bound=2, retention=DELAYED, again=True
    ),
    "removal of a repository": Scene(tagged, (remove,), bound=2, retention=KEPT),
    "removal of a repository, and push again": Scene(
        tagged, (remove_and_push,), bound=1, retention=KEPT
    ),
    "restore of a repository": Scene(
        repository_removed, (restore,), untagged=True, bound=1, retention=DELAYED
    ),
}
"""Every order; where that is too many, those with up to `bound` interruptions."""


def search(
    scene: Scene, makers: Makers | None = None, killed: tuple[str, int] | None = None
) -> Found:
    with capture_logs():
        return Search(
            lambda: prepare(scene, makers or Makers()),
            interruptions=scene.bound,
            stop_at_first=True,
            killed=killed,
        ).run()


def show(found: Found) -> str:
    """Return what was wrong after the first order with which something was, and that order."""
    problems, calls = found.problems[0] if found.problems else ([], [])
    return "\n".join([*problems, *calls])


@pytest.mark.parametrize("name", SCENES)
def test_nothing_is_lost_in_any_order(name: str) -> None:
    scene = SCENES[name]
    found = search(scene)
    kind = "every order" if scene.bound is None else f"up to {scene.bound} interruptions"
    print(f"{name}: {kind}: {found.orders}, {found.pruned} pruned; up to {found.steps} calls")
    assert found.orders > 1
    assert not found.problems, show(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCENES if SCENES[name].bound])
def test_nothing_is_lost_in_more_orders(name: str) -> None:
    """Every order of two actors; of three, or with the trash, those with one more interruption."""
    scene = SCENES[name]
    few = len(scene.clients) == 1 and scene.retention is NOTHING_KEPT
    bound = None if few else (scene.bound or 0) + 1
    found = search(replace(scene, bound=bound))
    print(f"{name}: {found.orders} orders, {found.pruned} pruned")
    assert not found.problems, show(found)


WRONG: Final = {
    "the collector looks before it moves": (
        Makers(collector=LooksBeforeMoving),
        "upload without a manifest",
        "told of",
    ),
    "a manifest's blobs are looked for before its link is written": (
        Makers(manifests=LooksBeforeLinking),
        "manifest of what nobody was told of",
        "is lost",
    ),
    "HEAD looks before it takes the lease": (
        Makers(blobs=LooksBeforeTelling),
        "HEAD of what is about to go",
        "told of",
    ),
    "a restore looks for the blobs before it moves the links back": (
        Makers(removals=LooksBeforeRestoring, collector=BlindCollector),
        "restore of what expires",
        "is lost",
    ),
    "the second look does not look at the trash": (
        Makers(collector=LooksAtNoTrash),
        "delete into the trash",
        "not ",
    ),
    "leftover blobs are destroyed before anything is marked": (
        Makers(collector=DestroysLeftovers),
        "read of what a killed collection left",
        "is lost",
    ),
}


@pytest.mark.parametrize("order", WRONG)
def test_a_wrong_order_loses_something(order: str) -> None:
    makers, name, problem = WRONG[order]
    found = search(replace(SCENES[name], bound=None), makers)
    assert found.problems
    print(f"{order}: after {found.orders} orders:\n{show(found)}")
    assert problem in found.problems[0][0][0]


def test_what_is_restored_is_whole_whatever_the_collector_knows_of_the_trash() -> None:
    scene = replace(SCENES["restore of what expires"], bound=None)
    found = search(scene, Makers(collector=BlindCollector))
    print(f"{found.orders} orders")
    assert not found.problems, show(found)


KILLED: Final = {"manifest": (put_blindly, 1), "HEAD": (head_only, None), "upload": (upload, 1)}
"""What a client does beside a collector that is killed, and the bound."""


@pytest.mark.parametrize("kind", KILLED)
def test_nothing_is_lost_when_the_collector_is_killed(kind: str) -> None:
    """After any of its calls; then another collection finds what it left."""
    client, bound = KILLED[kind]
    scene = Scene(orphaned, (client,), bound=bound, again=True)
    orders = 0
    calls = search(scene).steps
    for call in range(1, calls):
        found = search(scene, killed=("collector", call))
        assert not found.problems, show(found)
        orders += found.orders
    print(f"{kind}: {orders} orders, killed after each of up to {calls} calls")
