"""The catalog and the tags: end-8."""

from urllib.parse import quote

import pytest

from dockyard.storage import layout
from tests.api.registry import MakeRegistry, Registry
from tests.parts.images import image, index


TOP = index([])
BAD_NUMBERS = ["-1", "abc", "1.5", "+1", "1e3", " ", "99999999999999999999"]


async def push_tags(registry: Registry, name: str, *tags: str) -> None:
    """Point `tags` of `name` to an empty index, which needs nothing else."""
    for tag in tags:
        await registry.push(name, TOP, tag)


class TestTags:
    async def test_end_8_all_tags_in_the_order_of_their_bytes(self, registry: Registry) -> None:
        await push_tags(registry, "a/b", "b", "a", "_", "B", "10", "9", "a.b", "a-b", "a_b")
        answer = (await registry.send("GET", "v2/a/b/tags/list")).expect(200)
        assert answer.header("Content-Type") == "application/json"
        tags = ["10", "9", "B", "_", "a", "a-b", "a.b", "a_b", "b"]
        assert answer.json() == {"name": "a/b", "tags": tags}
        assert answer.header("Link") is None

    async def test_end_8_without_a_number_there_is_no_limit(self, make: MakeRegistry) -> None:
        registry = make(tags_limit=2)
        await push_tags(registry, "a", "1", "2", "3")
        answer = await registry.send("GET", "v2/a/tags/list")
        assert answer.json()["tags"] == ["1", "2", "3"]

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
    async def test_end_8_pages_follow_one_another(self, registry: Registry, size: int) -> None:
        await push_tags(registry, "a/b", "1", "2", "3", "4", "5")
        pages = await registry.pages(f"v2/a/b/tags/list?n={size}")
        listed = [page.json()["tags"] for page in pages]
        assert [tag for page in listed for tag in page] == ["1", "2", "3", "4", "5"]
        assert all(len(page) == size for page in listed[:-1])
        assert len(pages) == -(-5 // size)

    async def test_end_8_the_link_is_where_distribution_says(self, registry: Registry) -> None:
        await push_tags(registry, "a/b", "1", "2")
        answer = await registry.send("GET", "v2/a/b/tags/list?n=1")
        assert answer.header("Link") == '</v2/a/b/tags/list?last=1&n=1>; rel="next"'

    @pytest.mark.parametrize(
        ("last", "rest"),
        [("", ["1", "2", "b"]), ("1", ["2", "b"]), ("1z", ["2", "b"]), ("b", []), ("z", [])],
    )
    async def test_end_8_after_a_tag(self, registry: Registry, last: str, rest: list[str]) -> None:
        await push_tags(registry, "a", "b", "1", "2")
        answer = await registry.send("GET", f"v2/a/tags/list?last={last}")
        assert answer.json()["tags"] == rest

    async def test_end_8_none_at_all_if_wanted(self, registry: Registry) -> None:
        await push_tags(registry, "a", "1")
        answer = await registry.send("GET", "v2/a/tags/list?n=0")
        assert answer.json() == {"name": "a", "tags": []}
        assert answer.header("Link") is None

    async def test_end_8_a_number_over_the_limit_is_the_limit(self, make: MakeRegistry) -> None:
        registry = make(tags_limit=2)
        await push_tags(registry, "a", "1", "2", "3")
        answer = await registry.send("GET", "v2/a/tags/list?n=5000")
        assert answer.json()["tags"] == ["1", "2"]
        assert answer.header("Link") == '</v2/a/tags/list?last=2&n=2>; rel="next"'

    @pytest.mark.parametrize("number", BAD_NUMBERS)
    async def test_end_8_a_number_that_is_none(self, registry: Registry, number: str) -> None:
        await push_tags(registry, "a", "1")
        answer = await registry.send("GET", f"v2/a/tags/list?n={quote(number)}")
        error = answer.refused(400, "PAGINATION_NUMBER_INVALID")
        assert error["detail"] == {"n": number}

    @pytest.mark.parametrize("name", ["a", "team/app", "team"])
    async def test_end_8_an_unknown_repository(self, registry: Registry, name: str) -> None:
        await push_tags(registry, "team/app/below", "1")
        answer = await registry.send("GET", f"v2/{name}/tags/list")
        error = answer.refused(404, "NAME_UNKNOWN")
        assert error["detail"] == {"name": name}
        assert error["message"] == "repository name not known to registry"

    async def test_end_8_a_repository_without_tags_has_none(self, registry: Registry) -> None:
        await registry.push("a", TOP)
        answer = await registry.send("GET", "v2/a/tags/list")
        assert answer.json() == {"name": "a", "tags": []}
        await push_tags(registry, "a", "1")
        (await registry.send("DELETE", "v2/a/manifests/1")).expect(202)
        answer = await registry.send("GET", "v2/a/tags/list")
        assert answer.json() == {"name": "a", "tags": []}

    async def test_end_8_a_repository_with_blobs_only_is_none(self, registry: Registry) -> None:
        await registry.push_blob("a", b"x")
        (await registry.send("GET", "v2/a/tags/list")).refused(404, "NAME_UNKNOWN")


class TestCatalog:
    async def fill(self, registry: Registry, *names: str) -> None:
        for name in names:
            await push_tags(registry, name, "1")

    async def test_it_is_empty_at_first(self, registry: Registry) -> None:
        answer = (await registry.send("GET", "v2/_catalog")).expect(200)
        assert answer.json() == {"repositories": []}
        assert answer.header("Content-Type") == "application/json"

    async def test_it_has_the_order_of_a_walk(self, registry: Registry) -> None:
        await self.fill(registry, "a0", "a.b", "a/b", "a-b", "a", "b/a", "a/b/c", "B.x/a")
        answer = await registry.send("GET", "v2/_catalog")
        names = ["B.x/a", "a", "a/b", "a/b/c", "a-b", "a.b", "a0", "b/a"]
        assert answer.json() == {"repositories": names}

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 1000])
    async def test_pages_follow_one_another(self, registry: Registry, size: int) -> None:
        names = ["a", "a/b", "a/b/c", "a-b", "b", "c/d"]
        await self.fill(registry, *names)
        pages = await registry.pages(f"v2/_catalog?n={size}")
        listed = [page.json()["repositories"] for page in pages]
        assert [name for page in listed for name in page] == names
        # A page that is exactly full has no empty page after it, as distribution's had.
        assert len(pages) == -(-len(names) // size)

    async def test_the_link_is_where_distribution_says(self, registry: Registry) -> None:
        await self.fill(registry, "conformance/repo1", "conformance/repo2")
        answer = await registry.send("GET", "v2/_catalog?n=1")
        assert answer.json() == {"repositories": ["conformance/repo1"]}
        link = '</v2/_catalog?last=conformance%2Frepo1&n=1>; rel="next"'
        assert answer.header("Link") == link

    async def test_a_page_has_a_hundred_unless_asked(self, registry: Registry) -> None:
        names = [f"r{number:03}" for number in range(101)]
        for name in names:
            await registry.storage.put(layout.tag_current(name, "v1"), b"")
        answer = await registry.send("GET", "v2/_catalog")
        assert answer.json() == {"repositories": names[:100]}
        assert answer.header("Link") == '</v2/_catalog?last=r099&n=100>; rel="next"'

    async def test_the_limit_counts_for_those_who_do_not_ask_too(self, make: MakeRegistry) -> None:
        registry = make(catalog_limit=2)
        await self.fill(registry, "a", "b", "c")
        answer = await registry.send("GET", "v2/_catalog")
        assert answer.json() == {"repositories": ["a", "b"]}
        assert answer.header("Link") == '</v2/_catalog?last=b&n=2>; rel="next"'

    async def test_none_at_all_if_wanted(self, registry: Registry) -> None:
        await self.fill(registry, "a")
        answer = await registry.send("GET", "v2/_catalog?n=0")
        assert answer.json() == {"repositories": []}
        assert answer.header("Link") is None

    @pytest.mark.parametrize("number", BAD_NUMBERS)
    async def test_a_number_that_is_none(self, registry: Registry, number: str) -> None:
        answer = await registry.send("GET", f"v2/_catalog?n={quote(number)}")
        error = answer.refused(400, "PAGINATION_NUMBER_INVALID")
        assert error["detail"] == {"n": number}
        assert error["message"] == "invalid number of results requested"

    @pytest.mark.parametrize(("number", "status"), [(1000, 200), (1001, 400), (5000, 400)])
    async def test_a_number_over_the_limit_is_refused(
        self, registry: Registry, number: int, status: int
    ) -> None:
        answer = (await registry.send("GET", f"v2/_catalog?n={number}")).expect(status)
        if status == 400:
            error = answer.refused(400, "PAGINATION_NUMBER_INVALID")
            assert error["detail"] == {"n": number}

    async def test_empty_repositories_do_not_haunt_it(self, registry: Registry) -> None:
        await self.fill(registry, "tagged", "untagged", "deleted", "parent/child")
        await registry.push_blob("blobs-only", b"x")
        await registry.begin("uploads-only")
        (await registry.send("DELETE", "v2/untagged/manifests/1")).expect(202)
        target = f"v2/deleted/manifests/{TOP.digest}"
        (await registry.send("DELETE", target)).expect(202)
        answer = await registry.send("GET", "v2/_catalog")
        assert answer.json() == {"repositories": ["parent/child", "tagged", "untagged"]}

    async def test_a_repository_that_was_removed_by_hand_is_gone(self, registry: Registry) -> None:
        await self.fill(registry, "a", "a/b", "c")
        await registry.storage.delete("docker/registry/v2/repositories/a")
        answer = await registry.send("GET", "v2/_catalog")
        assert answer.json() == {"repositories": ["c"]}
        (await registry.send("GET", "v2/a/tags/list")).refused(404, "NAME_UNKNOWN")
        (await registry.manifest("a", "1")).refused(404, "MANIFEST_UNKNOWN")
        (await registry.blob("a", TOP.digest)).refused(404, "BLOB_UNKNOWN")
        await registry.push("a", image("again"), "1")
        answer = await registry.send("GET", "v2/_catalog")
        assert answer.json() == {"repositories": ["a", "c"]}
