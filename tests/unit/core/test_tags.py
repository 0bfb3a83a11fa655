import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from typing_extensions import override

from dockyard.core import tags as module
from dockyard.core.tags import ANYTHING, UNCONDITIONAL, Condition, Tags
from dockyard.core.trash import Trash
from dockyard.errors import ManifestUnknownError, RepositoryUnknownError, TagMovedError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from tests.unit.core.trees import CountingStorage
from tests.unit.core.turns import counting_turns


ONE, TWO, THREE = (Digest.of(content) for content in (b"1", b"2", b"3"))
MAYBE = st.none() | st.frozensets(st.sampled_from([str(ONE), str(TWO), ANYTHING]), max_size=2)


@given(MAYBE, MAYBE, st.sampled_from([ONE, TWO, None]))
def test_a_condition_is_what_rfc_9110_says(
    match: frozenset[str] | None, none_match: frozenset[str] | None, current: Digest | None
) -> None:
    def is_among(tags: frozenset[str]) -> bool:
        return current is not None and (ANYTHING in tags or str(current) in tags)

    holds = (match is None or is_among(match)) and not (none_match and is_among(none_match))
    condition = Condition(match, none_match)
    if holds:
        condition.check("v1", current)
        return
    with pytest.raises(TagMovedError) as caught:
        condition.check("v1", current)
    assert caught.value.current == (None if current is None else str(current))


async def test_a_tag_moves_and_its_history_stays(memory: InMemoryStorage) -> None:
    tags = Tags(memory, Trash(memory))
    for digest in (ONE, TWO, ONE):
        await tags.move("a", "v1", digest)
        assert await tags.resolve("a", "v1") == digest
    for digest in (ONE, TWO):
        assert await memory.get(layout.tag_index("a", "v1", digest), 100) == str(digest).encode()


async def test_a_kill_between_history_and_tag_leaves_the_tag_where_it_was(
    memory: InMemoryStorage,
) -> None:
    await Tags(memory, Trash(memory)).move("a", "v1", ONE)
    order: list[str] = []

    class Recording(InMemoryStorage):
        @override
        async def put(self, path: str, content: bytes) -> None:
            order.append(path)

    storage = Recording()
    await Tags(storage, Trash(storage)).move("a", "v1", TWO)
    assert order == [layout.tag_index("a", "v1", TWO), layout.tag_current("a", "v1")]


async def test_of_two_with_the_same_condition_one_fails(memory: InMemoryStorage) -> None:
    tags = Tags(memory, Trash(memory))
    await tags.move("a", "v1", ONE)
    condition = Condition(match=frozenset({str(ONE)}))
    moves = [tags.move("a", "v1", digest, condition) for digest in (TWO, THREE)]
    results = await asyncio.gather(*moves, return_exceptions=True)
    assert [type(result) for result in results].count(TagMovedError) == 1


async def test_an_unknown_tag(memory: InMemoryStorage) -> None:
    tags = Tags(memory, Trash(memory))
    with pytest.raises(ManifestUnknownError) as caught:
        await tags.resolve("a", "v1")
    assert caught.value.reference == "v1"
    with pytest.raises(ManifestUnknownError):
        await tags.delete("a", "v1")


async def test_untagging_leaves_what_points_elsewhere(memory: InMemoryStorage) -> None:
    tags = Tags(memory, Trash(memory))
    for tag, digest in (("one", ONE), ("uno", ONE), ("two", TWO)):
        await tags.move("a", tag, digest)
    await memory.put(layout.tag_current("a", "damaged"), b"")
    await tags.untag("a", ONE, Trash(memory).removal("a"))
    assert (await tags.page("a", None, ""))[0] == ["damaged", "two"]
    await tags.untag("nothing/here", ONE, Trash(memory).removal("nothing/here"))


async def test_untagging_looks_again_under_the_lock(memory: InMemoryStorage) -> None:
    tags = Tags(memory, Trash(memory))
    await tags.move("a", "v1", ONE)
    async with memory.lock("tag", "a:v1"):
        untagging = asyncio.create_task(tags.untag("a", ONE, Trash(memory).removal("a")))
        await asyncio.sleep(0)
        await memory.put(layout.tag_current("a", "v1"), str(TWO).encode())
    await untagging
    assert await tags.resolve("a", "v1") == TWO


async def test_a_tag_half_deleted_or_not_yet_made_is_not_listed(disk: FilesystemStorage) -> None:
    tags = Tags(disk, Trash(disk))
    await tags.move("a", "v1", ONE)
    await disk.put(layout.tag_index("a", "v2", ONE), b"")
    await disk.put(f"{layout.tags('a')}/stray-file", b"")
    assert await tags.page("a", None, "") == (["v1"], False)


@given(
    st.sets(st.text(alphabet="abAB01._-", min_size=1, max_size=3), max_size=10),
    st.integers(0, 5),
    st.text(alphabet="abAB01._-", max_size=3),
)
def test_a_page_is_a_slice_of_the_sorted_tags(names: set[str], size: int, last: str) -> None:
    async def page() -> tuple[list[str], bool]:
        storage = InMemoryStorage()
        await storage.put(f"{layout.manifests('a')}/x", b"")
        for name in names:
            await storage.put(layout.tag_current("a", name), b"")
        found, more = await Tags(storage, Trash(storage)).page("a", size, last)
        return list(found), more

    after = sorted(name for name in names if name > last)
    assert asyncio.run(page()) == (after[:size], len(after) > size)


async def test_others_get_their_turn_while_many_are_looked_at(memory: InMemoryStorage) -> None:
    for number in range(5 * module.BATCH):
        await memory.put(layout.tag_current("a", f"v{number}"), b"")
    tags = Tags(memory, Trash(memory))
    async with counting_turns() as turns:
        await tags.page("a", 1, "")
        few = turns()
        await tags.page("a", None, "")
        assert turns() - few >= few + 2


async def test_a_repository_that_is_none(memory: InMemoryStorage) -> None:
    with pytest.raises(RepositoryUnknownError) as caught:
        await Tags(memory, Trash(memory)).page("a", None, "")
    assert caught.value.name == "a"


class TestWhatIsRemembered:
    """The names of a settled directory are; each tag of a page is looked at every time."""

    @pytest.fixture
    async def storage(
        self, counting: CountingStorage, settle: Callable[[], Awaitable[None]]
    ) -> CountingStorage:
        for number in range(50):
            await counting.create(layout.tag_current("a", f"{number:02}"))
        await settle()
        return counting

    async def test_a_settled_directory_is_not_listed_again(self, storage: CountingStorage) -> None:
        tags = Tags(storage, Trash(storage))
        await tags.page("a", 3, "")
        storage.named.clear()
        assert await tags.page("a", 20, "09") == ([f"{number}" for number in range(10, 30)], True)
        assert storage.named == []

    async def test_only_what_may_be_on_the_page_is_looked_at(
        self, storage: CountingStorage
    ) -> None:
        await Tags(storage, Trash(storage)).page("a", 20, "09")
        looked_at = [f"{layout.tag_current('a', f'{number}')}" for number in range(10, 31)]
        assert storage.looked_at == looked_at

    async def test_what_others_do_shows_at_once(
        self, storage: CountingStorage, tmp_path: Path
    ) -> None:
        tags = Tags(storage, Trash(storage))
        assert await tags.page("a", 2, "") == (["00", "01"], True)
        (tmp_path / layout.tag_current("a", "00")).unlink()
        assert await tags.page("a", 2, "") == (["01", "02"], True)
        await storage.create(layout.tag_current("a", "00"))
        assert await tags.page("a", 2, "") == (["00", "01"], True)
        shutil.rmtree(tmp_path / layout.tag("a", "01"))
        assert await tags.page("a", 2, "") == (["00", "02"], True)
        shutil.rmtree(tmp_path / layout.repository("a"))
        with pytest.raises(RepositoryUnknownError):
            await tags.page("a", 2, "")

    async def test_changes_within_one_tick(self, storage: CountingStorage, tmp_path: Path) -> None:
        """The file system's time may be the same for both: what is so fresh is not trusted."""
        tags = Tags(storage, Trash(storage))
        for number in range(50):
            await storage.create(layout.tag_current("a", f"new-{number}"))
            assert (await tags.page("a", 9, "new"))[0] == [f"new-{number}"]
            shutil.rmtree(tmp_path / layout.tag("a", f"new-{number}"))
            assert (await tags.page("a", 9, "new"))[0] == []

    async def test_a_tag_that_is_being_made_shows_once_it_has_its_link(
        self, storage: CountingStorage, tmp_path: Path, settle: Callable[[], Awaitable[None]]
    ) -> None:
        """Its directory is there for long, so that nothing tells but the link itself."""
        tags = Tags(storage, Trash(storage))
        (tmp_path / layout.tag_current("a", "new")).parent.mkdir(parents=True)
        await settle()
        for _ in range(2):
            assert (await tags.page("a", 9, "new"))[0] == []
            assert (await tags.page("a", 9, "48"))[0] == ["49"]
        await storage.create(layout.tag_current("a", "new"))
        assert (await tags.page("a", 9, "48"))[0] == ["49", "new"]

    async def test_many_without_a_link_do_no_harm(
        self, storage: CountingStorage, tmp_path: Path
    ) -> None:
        for number in range(40):
            (tmp_path / layout.tag_current("a", f"{number:02}")).unlink()
        tags = Tags(storage, Trash(storage))
        assert await tags.page("a", 2, "") == (["40", "41"], True)
        assert await tags.page("a", 10, "") == ([f"{number}" for number in range(40, 50)], False)


def test_no_condition_always_holds() -> None:
    for current in (None, ONE):
        UNCONDITIONAL.check("v1", current)
    assert Condition() == UNCONDITIONAL
