import asyncio

import pytest
from hypothesis import given, strategies as st
from typing_extensions import override

from dockyard.core.tags import ANYTHING, UNCONDITIONAL, Condition, Tags
from dockyard.core.trash import Trash
from dockyard.errors import ManifestUnknownError, RepositoryUnknownError, TagMovedError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage


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


async def test_a_repository_that_is_none(memory: InMemoryStorage) -> None:
    with pytest.raises(RepositoryUnknownError) as caught:
        await Tags(memory, Trash(memory)).page("a", None, "")
    assert caught.value.name == "a"


def test_no_condition_always_holds() -> None:
    for current in (None, ONE):
        UNCONDITIONAL.check("v1", current)
    assert Condition() == UNCONDITIONAL
