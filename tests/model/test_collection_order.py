"""The collector beside everybody else, in every order of their storage calls.

The code is the real one, on a storage in memory; each actor has use cases of its own, as it has in
another process. After every order: each manifest that was acknowledged is served with all it needs,
and each blob that a client was told of is there for it.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from dockyard.clock import utc_now
from dockyard.core.blobs import Blobs
from dockyard.core.collector import Collected, Collector, Plan
from dockyard.core.leases import Leases
from dockyard.core.manifests import ManifestPush, Manifests
from dockyard.core.marking import Marking, Rules
from dockyard.core.policy import Policy
from dockyard.core.tags import Tags
from dockyard.core.trash import Trash
from dockyard.core.uploads import Uploads
from dockyard.errors import BlobUnknownError, ManifestBlobsUnknownError, ManifestUnknownError
from dockyard.oci import manifest as grammar
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Manifest
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


class World:
    """A registry's storage, what its clients know, and new processes that work on it.

    Attributes:
        acknowledged: manifests that were stored and not deleted, with their repositories.
        told: blobs that a client may rely on, with their repositories.
        problems: what went wrong in an actor.
    """

    def __init__(self, makers: Makers) -> None:
        self.storage: Final = SteppedStorage()
        self.acknowledged: Final[set[tuple[str, Digest]]] = set()
        self.told: Final[set[tuple[str, Digest]]] = set()
        self.problems: Final[list[str]] = []
        self.results: Final[list[Collected]] = []
        self._makers = makers

    def process(self) -> "Process":
        return Process(self, self._makers)

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
        return found


class Process:
    """What one worker, or one collector, does; knows nothing of the others."""

    def __init__(self, world: World, makers: Makers) -> None:
        storage = world.storage
        leases, trash = Leases(storage), Trash(storage)
        tags = Tags(storage, trash)
        self.world = world
        self.client = f"client {id(self)}"
        self.blobs = makers.blobs(storage, leases, trash)
        self.manifests = makers.manifests(storage, self.blobs, tags, Policy(), leases, trash)
        self.uploads = Uploads(storage, self.blobs, leases, utc_now)
        self.tags = tags
        self.collector = makers.collector(storage, self.manifests, leases, trash)

    async def collect(self, *, untagged: bool = False) -> None:
        result = await self.collector.run(Silent(), Plan(delete_untagged=untagged))
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


async def run(process: Process, script: Script) -> None:
    await script(process)


def prepare(scene: Scene, makers: Makers) -> Trial:
    """Return the actors of a scene, with nobody told of anything within the grace period."""
    world = World(makers)
    finish(run(world.process(), scene.before))
    world.told.clear()
    forget(world.storage)
    actors: dict[str, Coroutine[Any, Any, None]] = {
        f"client {number}": run(world.process(), client)
        for number, client in enumerate(scene.clients)
    }
    actors["collector"] = world.process().collect(untagged=scene.untagged)
    world.storage.stepped = True

    def verdict() -> list[str]:
        found = world.verdict()
        if scene.again:
            finish(world.process().collect())
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
    """Every order of two actors; of three, those with one more interruption."""
    scene = SCENES[name]
    bound = None if len(scene.clients) == 1 else (scene.bound or 0) + 1
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
}


@pytest.mark.parametrize("order", WRONG)
def test_a_wrong_order_loses_something(order: str) -> None:
    makers, name, problem = WRONG[order]
    found = search(replace(SCENES[name], bound=None), makers)
    assert found.problems
    print(f"{order}: after {found.orders} orders:\n{show(found)}")
    assert problem in found.problems[0][0][0]


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
