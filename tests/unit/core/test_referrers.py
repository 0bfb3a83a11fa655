import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from typing_extensions import override

from dockyard.core import referrers as module
from dockyard.core.referrers import Referrers
from dockyard.oci import mediatype
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Entry, Stamp
from tests.unit.core.trees import CountingStorage, add_revision, manifests_on
from tests.unit.core.turns import counting_turns


SUBJECT = Digest.of(b"subject")


def refers(seed: str, to: Digest | None = SUBJECT) -> bytes:
    """Return an index that names `to` as its subject."""
    body: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_INDEX,
        "manifests": [],
        "annotations": {"seed": seed},
    }
    if to is not None:
        body["subject"] = {"mediaType": "a/b", "digest": str(to), "size": 7}
    return json.dumps(body).encode()


async def found(referrers: Referrers, name: str = "a", subject: Digest = SUBJECT) -> set[Digest]:
    page, more = await referrers.page(name, subject, "", 100, "")
    assert not more
    return {referrer.digest for referrer in page}


Settle = Callable[[], Awaitable[None]]


async def test_what_distribution_stored_is_found(disk: FilesystemStorage) -> None:
    """It pushes such manifests without ado, and ignores their subject."""
    digest = await add_revision(disk, "a", refers("1"))
    await add_revision(disk, "a", refers("other", Digest.of(b"other subject")))
    await add_revision(disk, "a", refers("none", None))
    await add_revision(disk, "a", b"\xff no JSON")
    await add_revision(disk, "b", refers("elsewhere"))
    assert await found(Referrers(disk, manifests_on(disk))) == {digest}


async def test_what_distribution_stores_later_is_found_at_once(
    disk: FilesystemStorage, settle: Settle
) -> None:
    referrers = Referrers(disk, manifests_on(disk))
    there = set()
    for number in range(3):
        there.add(await add_revision(disk, "a", refers(f"{number}")))
        assert await found(referrers) == there
    await settle()
    assert await found(referrers) == there
    there.add(await add_revision(disk, "a", refers("later")))
    assert await found(referrers) == there


async def test_rm_is_seen_at_once(disk: FilesystemStorage, settle: Settle) -> None:
    referrers = Referrers(disk, manifests_on(disk))
    kept, gone = [await add_revision(disk, "a", refers(seed)) for seed in ("kept", "gone")]
    await settle()
    assert await found(referrers) == {kept, gone}
    await disk.delete(layout.revision("a", gone))
    assert await found(referrers) == {kept}
    await disk.delete(layout.repository("a"))
    assert await found(referrers) == set()


class TestCosts:
    async def test_each_manifest_is_read_once(self, counting: CountingStorage) -> None:
        for number in range(5):
            await add_revision(counting, "a", refers(f"{number}", Digest.of(b"other")))
        referrers = Referrers(counting, manifests_on(counting))
        assert await found(referrers) == set()
        read = counting.gets
        assert await found(referrers) == set()
        assert counting.gets == read

    async def test_a_settled_repository_is_not_listed_again(
        self, counting: CountingStorage, settle: Settle
    ) -> None:
        digest = await add_revision(counting, "a", refers("1"))
        referrers = Referrers(counting, manifests_on(counting))
        await settle()
        assert await found(referrers) == {digest}
        listed = counting.lists
        assert await found(referrers) == {digest}
        assert counting.lists == listed + 1  # only which algorithms there are

    async def test_a_repository_changed_a_moment_ago_is_listed_again(
        self, counting: CountingStorage
    ) -> None:
        digest = await add_revision(counting, "a", refers("1"))
        referrers = Referrers(counting, manifests_on(counting))
        for _ in range(2):
            listed = counting.lists
            assert await found(referrers) == {digest}
            assert counting.lists > listed + 1

    async def test_a_manifest_that_could_not_be_read_is_tried_again(
        self, disk: FilesystemStorage, settle: Settle
    ) -> None:
        digest = await add_revision(disk, "a", refers("1"))
        await disk.delete(layout.blob(digest))
        await settle()
        referrers = Referrers(disk, manifests_on(disk))
        assert await found(referrers) == set()
        await disk.put(layout.blob(digest), refers("1"))
        await settle()
        assert await found(referrers) == {digest}

    async def test_others_get_their_turn_while_many_are_read(self, memory: InMemoryStorage) -> None:
        await add_revision(memory, "few", refers("0", None))
        for number in range(module.SLICE * 3):
            await add_revision(memory, "a", refers(f"{number}", None))
        async with counting_turns() as turns:
            await found(Referrers(memory, manifests_on(memory)), "few")
            few = turns()
            await found(Referrers(memory, manifests_on(memory)))
            assert turns() - few >= few + 3

    async def test_only_so_much_is_remembered(
        self, counting: CountingStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "REMEMBERED", 3)
        for name, count in (("a", 2), ("b", 2), ("large", 4)):
            for number in range(count):
                await add_revision(counting, name, refers(f"{name} {number}"))
        referrers = Referrers(counting, manifests_on(counting))
        for name, count in (("a", 2), ("b", 2), ("large", 4), ("large", 4), ("a", 2)):
            assert len(await found(referrers, name)) == count
            remembered = referrers._repositories.values()  # noqa: SLF001 -- the promise is about memory
            assert sum(len(known.subjects) for known in remembered) <= 3


class TestDescriptions:
    """They are kept as long as what was read in the repository for them has not changed."""

    @pytest.fixture
    async def digest(self, counting: CountingStorage, settle: Settle) -> Digest:
        digest = await add_revision(counting, "a", refers("1"))
        await settle()
        return digest

    @pytest.fixture
    async def referrers(self, counting: CountingStorage, digest: Digest) -> Referrers:
        referrers = Referrers(counting, manifests_on(counting))
        for _ in range(2):
            assert await found(referrers) == {digest}
        return referrers

    async def test_what_has_not_changed_is_not_read_again(
        self, counting: CountingStorage, referrers: Referrers, digest: Digest
    ) -> None:
        counting.gets = 0
        counting.looked_at.clear()
        assert await found(referrers) == {digest}
        assert counting.gets == 0
        assert counting.looked_at == [layout.revision_link("a", digest)]

    async def test_a_link_that_is_gone_shows_at_once(
        self, referrers: Referrers, digest: Digest, tmp_path: Path
    ) -> None:
        """The directories above it are as they were: only its own tells."""
        link = tmp_path / layout.revision_link("a", digest)
        content = link.read_bytes()
        link.unlink()
        assert await found(referrers) == set()
        link.write_bytes(content)
        assert await found(referrers) == {digest}

    @pytest.mark.parametrize("damage", [b"", b"nonsense"])
    async def test_a_link_that_is_damaged_shows_at_once(
        self, referrers: Referrers, digest: Digest, tmp_path: Path, damage: bytes
    ) -> None:
        link = tmp_path / layout.revision_link("a", digest)
        content = link.read_bytes()
        for _ in range(20):  # within one step of the file system's time, some of them
            link.write_bytes(damage)
            assert await found(referrers) == set()
            link.write_bytes(content)
            assert await found(referrers) == {digest}

    async def test_a_type_that_is_noted_elsewhere_is_looked_up(
        self, counting: CountingStorage, tmp_path: Path, settle: Settle
    ) -> None:
        """Bytes that don't say their type are given one by who pushed them."""
        subject = {"mediaType": "a/b", "digest": str(SUBJECT), "size": 7}
        digest = await add_revision(counting, "a", json.dumps({"subject": subject}).encode())
        noted = layout.revision_media_type("a", digest)
        referrers = Referrers(counting, manifests_on(counting))

        async def described() -> str:
            page, _ = await referrers.page("a", SUBJECT, "", 10, "")
            return str(json.loads(page[0].descriptor)["mediaType"])

        for media_type in ("a/one", "a/two"):
            await counting.put(noted, media_type.encode())
            await settle()
            for _ in range(2):
                assert await described() == media_type
        (tmp_path / noted).write_text("a/three")
        assert await described() == "a/three"

    async def test_only_so_much_is_remembered(
        self, counting: CountingStorage, monkeypatch: pytest.MonkeyPatch, settle: Settle
    ) -> None:
        for number in range(6):
            await add_revision(counting, "a", refers(f"{number}"))
        await settle()
        referrers = Referrers(counting, manifests_on(counting))
        size = 1000
        monkeypatch.setattr(module, "DESCRIBED", 3 * size)
        for _ in range(2):
            assert len(await found(referrers)) == 6
            kept = referrers._descriptions.values()  # noqa: SLF001 -- the promise is about memory
            assert 2 * size < sum(each.size for each in kept) <= 3 * size


async def test_a_field_whose_name_is_escaped_is_found(disk: FilesystemStorage) -> None:
    content = refers("1").replace(b'"subject"', b'"s\\u0075bject"')
    digest = await add_revision(disk, "a", content)
    assert await found(Referrers(disk, manifests_on(disk))) == {digest}


async def test_what_can_not_be_read_refers_to_nothing(disk: FilesystemStorage) -> None:
    """Such as one whose children can't be verified, or one of schema 1."""
    for old, new in ((b'"manifests": []', b'"manifests": [{}]'), (b": 2", b": 1")):
        await add_revision(disk, "a", refers("1").replace(old, new))
    digest = await add_revision(disk, "a", refers("2"))
    assert await found(Referrers(disk, manifests_on(disk))) == {digest}


async def test_pages_of_many(disk: FilesystemStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 2)
    there = sorted([str(await add_revision(disk, "a", refers(f"{number}"))) for number in range(9)])
    referrers, listed, more = Referrers(disk, manifests_on(disk)), list[str](), True
    while more:
        last = listed[-1] if listed else ""
        page, more = await referrers.page("a", SUBJECT, "", 4, last)
        listed += (str(referrer.digest) for referrer in page)
        assert len(page) == 4 or not more
    assert listed == there
    assert await referrers.page("a", SUBJECT, "of/another", 4, "") == ([], False)


class Interleaved(FilesystemStorage):
    """Lets two looks at a repository happen at once.

    After the first has listed the manifests, two more are pushed. The second look, which lists
    them, has read one of them when the first goes on, and reads the other after its end.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.pushed: set[Digest] = set()
        self.first_is_done = asyncio.Event()
        self._second_is_half_way = asyncio.Event()
        self.start_second: Callable[[], None] = self._second_is_half_way.set
        self._looks = 0
        self._read = 0

    @override
    async def list(self, path: str) -> Iterable[Entry]:
        entries = await super().list(path)
        if path.endswith("/sha256"):
            self._looks += 1
            if self._looks == 1:
                self.pushed = {await add_revision(self, "a", refers(seed)) for seed in "12"}
                self.start_second()
                with suppress(TimeoutError):  # it may have to wait for the end of the first
                    await asyncio.wait_for(self._second_is_half_way.wait(), 0.1)
        return entries

    @override
    async def get(self, path: str, limit: int) -> bytes:
        if path in {layout.blob(digest) for digest in self.pushed}:
            self._read += 1
            if self._read == 2:
                self._second_is_half_way.set()
                await self.first_is_done.wait()
        return await super().get(path, limit)


async def test_a_look_that_began_earlier_does_not_hide_what_came_since(tmp_path: Path) -> None:
    """A client that pushed, and then asks, finds what it pushed, whoever else is asking."""
    storage = Interleaved(tmp_path)
    before = await add_revision(storage, "a", refers("before"))
    referrers = Referrers(storage, manifests_on(storage))
    second: list[asyncio.Task[set[Digest]]] = []
    storage.start_second = lambda: second.append(asyncio.create_task(found(referrers)))
    assert await found(referrers) == {before}
    storage.first_is_done.set()
    assert await second[0] == {before, *storage.pushed}


async def test_algorithms_are_looked_up_apart(disk: FilesystemStorage, tmp_path: Path) -> None:
    """A directory that vanishes between two looks is an empty one."""
    digest = await add_revision(disk, "a", refers("1"))
    content = refers("2")
    other = Digest.of(content, "sha512")
    await disk.put(layout.blob(other), content)
    await disk.put(layout.revision_link("a", other), str(other).encode())
    (tmp_path / layout.revisions("a") / "stray").write_text("x")
    assert await found(Referrers(disk, manifests_on(disk))) == {digest, other}


@pytest.mark.parametrize("method", ["stamp", "list"])
async def test_revisions_that_vanish_within_a_look(
    disk: FilesystemStorage, tmp_path: Path, method: str, settle: Settle
) -> None:
    await add_revision(disk, "a", refers("1"))
    await settle()

    class Vanishing(FilesystemStorage):
        async def _vanish(self, path: str) -> None:
            if path.endswith("/sha256") and await self.exists(path):
                await self.delete(path)

        @override
        async def stamp(self, path: str) -> Stamp | None:
            if method == "stamp":
                await self._vanish(path)
            return await super().stamp(path)

        @override
        async def list(self, path: str) -> Iterable[Entry]:
            await self._vanish(path)
            return await super().list(path)

    storage = Vanishing(tmp_path)
    assert await found(Referrers(storage, manifests_on(storage))) == set()
