"""The registry with its collector and its trash against a few sets, in orders nobody thought of.

After each step all that the model has is served whole, and what is stored is what the model says:
a collection frees exactly what nothing needs.
"""

import asyncio
import os
import shutil
from collections.abc import Collection, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from structlog.testing import capture_logs
from typing_extensions import override

from dockyard.clock import utc_now
from dockyard.core.collector import Collector, Plan
from dockyard.core.leases import GRACE, Leases
from dockyard.core.manifests import ManifestPush
from dockyard.core.trash import Trash
from dockyard.errors import BlobUnknownError, ManifestBlobsUnknownError, ManifestUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from tests.api.registry import services_on
from tests.model.interleaving import pieces
from tests.parts.collection import Silent
from tests.parts.images import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Content, manifest


T = TypeVar("T")

KEEP: Final = timedelta(hours=24)
DELAY: Final = timedelta(hours=5)
NAMES = st.sampled_from(["a", "a/b"])
TAGS = st.sampled_from(["v1", "v2"])
LAYERS = [Content(OCI_CONFIG, body) for body in (b"one", b"two", b"three")]
CONFIG = LAYERS[0]
BLOBS = st.sampled_from(LAYERS)
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class AgingStorage(FilesystemStorage):
    """A disk on which time can be made to pass."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._probe = root / "probe"
        self._jumps: list[tuple[float, float]] = []

    def now(self) -> datetime:
        return utc_now() + timedelta(seconds=sum(jump for _, jump in self._jumps))

    def jump(self, by: timedelta) -> None:
        """Let time pass, between two ticks of the file system's clock."""
        before = moment = self._tick()
        while moment == before:
            moment = self._tick()
        self._jumps.append((moment, by.total_seconds()))

    def _tick(self) -> float:
        self._probe.write_bytes(b"")
        return self._probe.stat().st_ctime

    @override
    async def age(self, path: str) -> float:
        age = await super().age(path)
        changed = (self._root_path / path).stat().st_ctime
        return age + sum(jump for moment, jump in self._jumps if moment > changed)

    @property
    def _root_path(self) -> Path:
        return self._probe.parent


@dataclass(frozen=True)
class Known:
    """What a manifest says."""

    content: Content
    blobs: frozenset[Digest]
    children: frozenset[Digest]
    subject: Digest | None = None

    @property
    def needs(self) -> set[Digest]:
        return {digest(self.content), *self.blobs, *self.children}


@dataclass
class Repository:
    """What a repository has.

    Attributes:
        links: the blobs it has links to.
        manifests: its manifests.
        tags: what its tags point to.
        pasts: what each of its tags ever pointed to.
        listed: whether collections find it: it has had a manifest.
    """

    links: set[Digest] = field(default_factory=set)
    manifests: set[Digest] = field(default_factory=set)
    tags: dict[str, Digest] = field(default_factory=dict)
    pasts: dict[str, set[Digest]] = field(default_factory=dict)
    listed: bool = False


@dataclass
class Item(Repository):
    """What was removed from the repository `name` at a time, and how the trash calls it."""

    name: str = ""
    identifier: str = ""
    removed: datetime = datetime.min.replace(tzinfo=UTC)  # noqa: RUF009 -- always given

    @property
    def is_empty(self) -> bool:
        return not (self.links or self.manifests or self.tags)


@dataclass
class Lease:
    """How often a client was told, and when last."""

    times: int
    last: datetime


def digest(content: Content) -> Digest:
    return Digest.parse(content.digest)


class CollectionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._directory = TemporaryDirectory(dir=MEMORY)
        self._root = Path(self._directory.name)
        self._storage = AgingStorage(self._root)
        self._services = services_on(self._storage, keep=KEEP, clock=self._storage.now)
        self._runner = asyncio.Runner()
        self._known: dict[Digest, Known] = {}
        self._repositories: dict[str, Repository] = {}
        self._items: list[Item] = []
        self._stored: set[Digest] = set()
        self._taken: dict[Digest, datetime] = {}
        self._leases: dict[tuple[str, Digest], Lease] = {}

    def _run(self, work: Coroutine[None, None, T]) -> T:
        with capture_logs():
            return self._runner.run(work)

    def _repository(self, name: str) -> Repository:
        return self._repositories.setdefault(name, Repository())

    # The model

    def _is_there(self, wanted: Digest) -> bool:
        """Return whether a blob is stored or can be brought back; who looks brings it back."""
        if wanted in self._taken and wanted not in self._stored:
            del self._taken[wanted]
            self._stored.add(wanted)
        return wanted in self._stored

    def _has(self, name: str, wanted: Digest) -> bool:
        return wanted in self._repository(name).links and self._is_there(wanted)

    def _has_all(self, name: str, wanted: Collection[Digest]) -> bool:
        found = [self._has(name, each) for each in wanted]  # looks at each, which brings it back
        return all(found)

    def _mark(self, name: str, wanted: Digest, times: int) -> None:
        lease = self._leases.setdefault((name, wanted), Lease(0, self._storage.now()))
        lease.times, lease.last = max(0, lease.times + times), self._storage.now()

    def _is_leased(self, lease: Lease) -> bool:
        return lease.times > 0 and self._storage.now() - lease.last <= GRACE

    def _held(self) -> set[Digest]:
        return {each for (_, each), lease in self._leases.items() if self._is_leased(lease)}

    def _kept_items(self) -> list[Item]:
        return [each for each in self._items if self._storage.now() - each.removed < KEEP]

    def _lacks(self, name: str, wanted: Digest) -> bool:
        """Return whether a manifest is not there, or not whole."""
        there, known = self._repository(name).manifests, self._known[wanted]
        return (
            wanted not in there
            or not known.children <= there
            or not self._has_all(name, known.blobs)
        )

    def _discard(self, name: str, removed: Repository) -> None:
        """Note what came to the trash."""
        known = {each.identifier for each in self._items}
        found = [
            each
            for each in self._run(self._services.removals.items(name))
            if each.identifier not in known
        ]
        [item] = found
        self._items.append(
            Item(**vars(removed), name=name, identifier=item.identifier, removed=item.removed)
        )
        # The names of what is removed within a second are in no order.
        self._storage.jump(timedelta(seconds=1))

    # Pushing

    @rule(name=NAMES, content=BLOBS)
    def upload(self, name: str, content: Content) -> None:
        wanted = digest(content)
        self._run(self._services.uploads.store(name, wanted, pieces(content.body)))
        self._stored.add(wanted)
        self._repository(name).links.add(wanted)
        self._mark(name, wanted, 1)

    @rule(name=NAMES, content=BLOBS)
    def head(self, name: str, content: Content) -> None:
        self._ask(name, content)

    def _ask(self, name: str, content: Content) -> bool:
        wanted, there = digest(content), self._has(name, digest(content))
        try:
            self._run(self._services.blobs.tell(name, wanted)).close()
            found = True
        except BlobUnknownError:
            found = False
        assert found is there
        self._mark(name, wanted, 1)
        if not there:
            self._mark(name, wanted, -1)
        return there

    @rule(name=NAMES, source=NAMES, content=BLOBS)
    def mount(self, name: str, source: str, content: Content) -> None:
        wanted = digest(content)
        linked = wanted in self._repository(source).links
        expected = linked and self._is_there(wanted)
        assert self._run(self._services.blobs.mount(name, wanted, source)) is expected
        if linked:
            self._mark(name, wanted, 1)
        if linked and not expected:
            self._mark(name, wanted, -1)
        if expected:
            self._repository(name).links.add(wanted)

    @rule(
        name=NAMES,
        tag=st.none() | TAGS,
        layers=st.frozensets(BLOBS, max_size=2),
        blindly=st.booleans(),
        data=st.data(),
    )
    def push_image(
        self,
        name: str,
        tag: str | None,
        layers: frozenset[Content],
        data: st.DataObject,
        *,
        blindly: bool,
    ) -> None:
        """Push an image, or, `blindly`, its manifest only."""
        subjects = [
            known for known in self._known.values() if known.content.media_type != OCI_INDEX
        ]
        subject = data.draw(st.none() | st.sampled_from(subjects)) if subjects else None
        ordered = sorted(layers, key=lambda each: each.body)
        fields = {} if subject is None else {"subject": subject.content.descriptor()}
        described = [each.descriptor() for each in ordered]
        top = manifest(OCI_MANIFEST, config=CONFIG.descriptor(), layers=described, **fields)
        blobs = frozenset(map(digest, [CONFIG, *ordered]))
        above = None if subject is None else digest(subject.content)
        if not blindly:
            for content in dict.fromkeys([CONFIG, *ordered]):
                if not self._ask(name, content):
                    self.upload(name, content)
        self._put(name, tag, Known(top, blobs, frozenset(), above))

    @precondition(lambda self: any(each.manifests for each in self._repositories.values()))
    @rule(tag=st.none() | TAGS, data=st.data())
    def push_index(self, tag: str | None, data: st.DataObject) -> None:
        full = sorted(name for name, each in self._repositories.items() if each.manifests)
        name = data.draw(st.sampled_from(full))
        there = sorted(self._repository(name).manifests)
        children = data.draw(st.lists(st.sampled_from(there), max_size=2, unique=True))
        described = [self._known[each].content.descriptor() for each in sorted(children)]
        top = manifest(OCI_INDEX, manifests=described)
        self._put(name, tag, Known(top, frozenset(), frozenset(children)))

    def _put(self, name: str, tag: str | None, known: Known) -> None:
        top, repository = digest(known.content), self._repository(name)
        tags = () if tag is None else (tag,)
        push = ManifestPush(name, known.content.body, known.content.media_type, None, tags)
        whole = self._has_all(name, known.blobs)
        whole = whole and known.children <= repository.manifests
        try:
            self._run(self._services.manifests.put(push))
            stored = True
        except ManifestBlobsUnknownError:
            stored = False
        assert stored is whole
        if not stored:
            return
        self._known[top] = known
        self._stored.add(top)
        repository.manifests.add(top)
        repository.listed = True
        for each in known.blobs:
            lease = self._leases.get((name, each))
            if lease is not None and self._is_leased(lease):
                self._mark(name, each, -lease.times)
        if tag is not None:
            self._set(name, tag, top)

    def _set(self, name: str, tag: str, to: Digest) -> None:
        self._repository(name).tags[tag] = to
        self._repository(name).pasts.setdefault(tag, set()).add(to)

    # Removing

    @precondition(lambda self: any(each.manifests for each in self._repositories.values()))
    @rule(data=st.data())
    def delete_manifest(self, data: st.DataObject) -> None:
        full = sorted(name for name, each in self._repositories.items() if each.manifests)
        name = data.draw(st.sampled_from(full))
        wanted = data.draw(st.sampled_from(sorted(self._repository(name).manifests)))
        self._run(self._services.manifests.delete(name, wanted))
        repository = self._repository(name)
        tags = [tag for tag, to in repository.tags.items() if to == wanted]
        removed = Repository(manifests={wanted})
        for tag in tags:
            removed.tags[tag], removed.pasts[tag] = (
                repository.tags.pop(tag),
                repository.pasts.pop(tag),
            )
        repository.manifests.discard(wanted)
        self._discard(name, removed)

    @rule(name=NAMES, tag=TAGS)
    def delete_tag(self, name: str, tag: str) -> None:
        repository = self._repository(name)
        try:
            self._run(self._services.tags.delete(name, tag))
        except ManifestUnknownError:
            assert tag not in repository.tags
            return
        to, pasts = repository.tags.pop(tag), repository.pasts.pop(tag)
        self._discard(name, Repository(tags={tag: to}, pasts={tag: pasts}))

    @rule(name=NAMES, content=BLOBS)
    def delete_blob(self, name: str, content: Content) -> None:
        wanted, links = digest(content), self._repository(name).links
        try:
            self._run(self._services.blobs.unlink(name, wanted))
        except BlobUnknownError:
            assert wanted not in links
            return
        links.remove(wanted)
        self._discard(name, Repository(links={wanted}))

    @rule(name=NAMES, by_hand=st.booleans())
    def remove_repository(self, name: str, *, by_hand: bool) -> None:
        repository = self._repository(name)
        if by_hand:
            shutil.rmtree(self._root / layout.repository(name), ignore_errors=True)
            for each in list(self._repositories):
                if each == name or each.startswith(f"{name}/"):
                    del self._repositories[each]
        elif repository.listed or self._has_links_directory(name):
            self._run(self._services.removals.remove_repository(name))
            del self._repositories[name]
            repository.listed = False
            self._discard(name, repository)

    def _has_links_directory(self, name: str) -> bool:
        return (self._root / layout.repository(name) / "_layers").exists()

    # Undoing

    @precondition(lambda self: self._kept_items())
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self._kept_items()))
        restored = self._run(self._services.removals.restore(item.identifier))
        repository = self._repository(item.name)
        item.links -= (moved := item.links - repository.links)
        repository.links |= moved
        wanted = {*item.manifests, *item.tags.values()}
        incomplete = self._bring_back(item.name, wanted, item)
        for tag, to in list(item.tags.items()):
            if to not in incomplete:
                self._restore_tag(item, tag, restored.tags, restored.taken)
        assert set(restored.incomplete) == incomplete
        assert wanted - incomplete <= set(restored.manifests)
        if not incomplete and item in self._items:
            self._items.remove(item)

    def _restore_tag(
        self, item: Item, tag: str, restored: Collection[str], taken: Collection[str]
    ) -> None:
        repository = self._repository(item.name)
        if tag in repository.tags:
            assert tag in taken
            moved = item.pasts[tag] - repository.pasts[tag]
            repository.pasts[tag] |= moved
            item.pasts[tag] -= moved
            return
        assert tag in restored
        repository.tags[tag], repository.pasts[tag] = item.tags.pop(tag), item.pasts.pop(tag)

    def _bring_back(self, name: str, wanted: Iterable[Digest], first: Item | None) -> set[Digest]:
        """Move manifests back, with what they list; return those that are not whole."""
        repository = self._repository(name)
        items = [each for each in self._kept_items() if each.name == name]
        items.sort(key=lambda each: each.identifier)
        items += [] if first is None else [first]
        seen, moved, waiting = set[Digest](), dict[Digest, Item](), list(wanted)
        while waiting:
            each = waiting.pop()
            if each in seen:
                continue
            seen.add(each)
            having = [item for item in items if each in item.manifests]
            if each not in repository.manifests and having:
                moved[each] = having[-1]
                having[-1].manifests.remove(each)
                repository.manifests.add(each)
                repository.listed = True
            if each in repository.manifests:
                waiting += self._known[each].children
        seen &= {*wanted, *repository.manifests}
        changed = self._bring_links_back(name, seen, items)
        incomplete = self._return_incomplete(name, seen, moved)
        for item in [*moved.values(), *changed]:
            if item.is_empty and item in self._items:
                self._items.remove(item)
        return incomplete

    def _bring_links_back(self, name: str, seen: set[Digest], items: list[Item]) -> list[Item]:
        """Move the links back that manifests lack; return the items that had them."""
        repository, changed = self._repository(name), list[Item]()
        for each in seen & repository.manifests:
            for blob in self._known[each].blobs - repository.links:
                for item in items:
                    if blob in item.links:
                        item.links.remove(blob)
                        repository.links.add(blob)
                        changed.append(item)
                        break
        return changed

    def _return_incomplete(
        self, name: str, seen: set[Digest], moved: dict[Digest, Item]
    ) -> set[Digest]:
        repository = self._repository(name)
        incomplete = set[Digest]()
        while lacking := {e for e in seen - incomplete if self._lacks(name, e)}:
            for each in lacking & moved.keys():
                moved[each].manifests.add(each)
                repository.manifests.remove(each)
            incomplete |= lacking
        return incomplete

    @rule(name=NAMES, tag=TAGS, data=st.data())
    def roll_back(self, name: str, tag: str, data: st.DataObject) -> None:
        histories = [self._repository(name).pasts.get(tag, set())]
        histories += [
            each.pasts[tag] for each in self._kept_items() if each.name == name and tag in each.tags
        ]
        pasts = sorted(set().union(*histories))
        if not pasts:
            return
        wanted = data.draw(st.sampled_from(pasts))
        try:
            self._run(self._services.removals.rollback(name, tag, wanted))
            done = True
        except ManifestUnknownError:
            done = False
        incomplete = self._bring_back(name, {wanted}, None)
        assert done is (wanted not in incomplete)
        if done:
            self._set(name, tag, wanted)

    # Collecting

    @rule(hours=st.sampled_from([0.6, 6, 13]))
    def let_time_pass(self, hours: float) -> None:
        self._storage.jump(timedelta(hours=hours))

    @rule(
        untagged=st.booleans(),
        keep_trash=st.booleans(),
        delayed=st.booleans(),
        dry_run=st.sampled_from([False, False, False, True]),
    )
    def collect(self, *, untagged: bool, keep_trash: bool, delayed: bool, dry_run: bool) -> None:
        kept_for = KEEP if keep_trash else timedelta(0)
        trash = Trash(self._storage, kept_for, self._storage.now)
        collector = Collector(
            self._storage,
            services_on(self._storage, keep=kept_for, clock=self._storage.now).manifests,
            Leases(self._storage),
            trash,
        )
        delay = DELAY if delayed else timedelta(0)
        plan = Plan(delete_untagged=untagged, delay=delay, dry_run=dry_run)
        result = self._run(collector.run(Silent(), plan))
        assert (result.doubts, result.spared) == ([], [])
        kept = [each for each in self._kept_items() if keep_trash]
        dropped = self._untagged(kept) if untagged else {}
        assert set(result.manifests) == {
            (name, each) for name, gone in dropped.items() for each in gone
        }
        needed = self._held() | self._needed(kept, {} if keep_trash else dropped)
        goes = {*self._stored, *self._taken} - needed
        assert set(result.blobs) == goes
        for each in needed & self._taken.keys():
            del self._taken[each]
            self._stored.add(each)
        if not dry_run:
            self._items = kept
            self._drop(dropped, keep_trash=keep_trash)
            self._free(goes, delay)

    def _untagged(self, kept: Collection[Item]) -> dict[str, set[Digest]]:
        """Return what no tag needs, nor anything in the trash."""
        found = {}
        for name, repository in self._repositories.items():
            removed = {e for item in kept if item.name == name for e in item.manifests}
            known = repository.manifests | removed
            reached = (set(repository.tags.values()) | removed) & known
            while True:
                more = {child for each in reached for child in self._known[each].children} & known
                more |= {each for each in known if self._known[each].subject in reached}
                if more <= reached:
                    break
                reached |= more
            if gone := repository.manifests - reached:
                found[name] = gone
        return found

    def _needed(self, kept: Collection[Item], dropped: dict[str, set[Digest]]) -> set[Digest]:
        found: set[Digest] = set()
        for name, repository in self._repositories.items():
            for each in repository.manifests - dropped.get(name, set()):
                found |= self._known[each].needs
        for item in kept:
            for each in item.manifests:
                found |= self._known[each].needs
            if not item.manifests:
                found |= item.links
        return found

    def _drop(self, dropped: dict[str, set[Digest]], *, keep_trash: bool) -> None:
        for name, gone in dropped.items():
            self._repository(name).manifests -= gone
            if keep_trash:
                self._discard(name, Repository(manifests=set(gone)))

    def _free(self, goes: set[Digest], delay: timedelta) -> None:
        now = self._storage.now()
        for each in goes & self._stored:
            self._stored.remove(each)
            self._taken[each] = now
        for repository in self._repositories.values():
            if repository.listed:
                repository.links -= goes
        self._taken = {
            each: taken for each, taken in self._taken.items() if delay and now - taken <= delay
        }
        self._leases = {key: lease for key, lease in self._leases.items() if self._is_leased(lease)}

    # What must be seen

    @invariant()
    def all_is_served_whole(self) -> None:
        for name, repository in self._repositories.items():
            for tag, to in repository.tags.items():
                assert self._run(self._services.tags.resolve(name, tag)) == to
            for each in repository.manifests:
                got = self._run(self._services.manifests.get(name, each))
                assert got.content == self._known[each].content.body
                for needed in self._known[each].blobs:
                    assert self._run(self._services.blobs.has(name, needed)) is self._has(
                        name, needed
                    )

    @invariant()
    def what_is_stored_is_what_is_known(self) -> None:
        base = self._root / layout.BLOBS / "sha256"
        assert {f"sha256:{path.parent.name}" for path in base.glob("*/*/data")} == {
            str(each) for each in self._stored
        }
        with suppress(FileNotFoundError):
            taken = list((self._root / layout.trash_blobs("sha256")).iterdir())
            assert {f"sha256:{path.name}" for path in taken} == {str(each) for each in self._taken}

    @invariant()
    def the_trash_has_what_was_removed(self) -> None:
        found = self._run(self._services.removals.items())
        kept = {item.identifier: item for item in self._kept_items()}
        assert {item.identifier for item in found} == kept.keys()
        for item in found:
            known = kept[item.identifier]
            assert set(item.manifests) == known.manifests
            assert item.tags == known.tags
            assert set(item.blobs) == known.links

    @override
    def teardown(self) -> None:
        self._runner.close()
        self._directory.cleanup()


TestCollection = CollectionMachine.TestCase
TestCollection.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
