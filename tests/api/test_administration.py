"""What the distribution API does not have, below ``v2/_dockyard/``."""

import asyncio
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dockyard.core.collector import Collector, Plan
from dockyard.core.leases import Leases
from dockyard.core.trash import Trash
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.interface import Storage
from tests.api.client import Answer
from tests.api.registry import MakeRegistry, Registry, blob_file, link_file, services_on
from tests.parts.collection import Silent
from tests.parts.images import Image, digest_of, image, multi_platform


ONE, TWO = image("one"), image("two")
WEEK = timedelta(days=7)
NO_ITEM = "20260131T120000Z-1a2b3c4d"
BAD_NUMBERS = ["-1", "abc", "1.5", "99999999999999999999"]

BAD_TAGS = [".v1", "-v1", "a" * 129, "v1:2", "v%20", "v1%00", "..", "."]
BAD_NAMES = ["A", "a//b", "a/../b", "..", "a/", "%2e%2e", "a%00", "_trash", "a/_manifests"]
BAD_ITEMS = ["..", ".", "%2e%2e", "..%2f..%2fblobs", "%2fetc", "a", f"{NO_ITEM}%00", "x" * 300]


@pytest.fixture
def registry(make: MakeRegistry) -> Registry:
    """A registry in which what is removed can be restored for a week."""
    return make(keep=WEEK)


@pytest.fixture
async def pushed(registry: Registry) -> Registry:
    """A registry in which ``latest`` of ``a/b`` points to the second of two images."""
    await registry.push("a/b", ONE, "latest", "v1")
    await asyncio.sleep(0.02)  # a file's time is counted in the kernel's ticks
    await registry.push("a/b", TWO, "latest")
    return registry


async def collect(storage: Storage, *, untagged: bool = False, keep: timedelta = WEEK) -> None:
    """Collect once, whoever was told of what."""
    manifests, trash = services_on(storage, keep=keep).manifests, Trash(storage, keep)
    collector = Collector(storage, manifests, Leases(storage, timedelta(hours=-1)), trash)
    await collector.run(Silent(), Plan(delete_untagged=untagged))


async def history(registry: Registry, tag: str = "latest") -> list[tuple[str, str]]:
    """Return the digests and states of a tag's history."""
    answer = (await registry.send("GET", f"v2/_dockyard/tags/a/b/{tag}")).expect(200)
    return [(past["digest"], past["state"]) for past in answer.json()["history"]]


async def rollback(registry: Registry, tag: str = "latest", query: str = "") -> Answer:
    return await registry.send("POST", f"v2/_dockyard/tags/a/b/{tag}{query}")


async def items(registry: Registry) -> list[dict[str, Any]]:
    """Return what is in the trash."""
    return list((await registry.send("GET", "v2/_dockyard/trash")).expect(200).json()["items"])


async def item(registry: Registry) -> str:
    """Return the name of the only item of the trash."""
    (only,) = await items(registry)
    return str(only["id"])


async def restore(registry: Registry, name: str) -> Answer:
    return await registry.send("POST", f"v2/_dockyard/trash/{name}")


async def assert_served(registry: Registry, top: Image, reference: str) -> None:
    """Assert that an image of ``a/b`` is served whole."""
    for each in top.everything():
        wanted = reference if each is top else each.digest
        answer = (await registry.manifest("a/b", wanted)).expect(200)
        assert answer.body == each.manifest.body
        for content in each.blobs:
            assert (await registry.blob("a/b", content.digest)).expect(200).body == content.body


class TestHistory:
    async def test_history_is_the_newest_first(self, pushed: Registry) -> None:
        answer = (await pushed.send("GET", "v2/_dockyard/tags/a/b/latest")).expect(200)
        assert answer.header("Content-Type") == "application/json"
        assert answer.facts.name == "a/b"
        assert answer.facts.reference == "latest"
        document = answer.json()
        assert list(document) == ["name", "tag", "history"]
        assert (document["name"], document["tag"]) == ("a/b", "latest")
        first, second = document["history"]
        assert (first["digest"], first["state"]) == (TWO.digest, "current")
        assert (second["digest"], second["state"]) == (ONE.digest, "kept")
        assert datetime.fromisoformat(first["moved"]) > datetime.fromisoformat(second["moved"])
        assert datetime.fromisoformat(first["moved"]).utcoffset() == timedelta(0)
        assert "item" not in first

    async def test_history_says_where_each_is(self, pushed: Registry) -> None:
        (await pushed.send("DELETE", f"v2/a/b/manifests/{ONE.digest}")).expect(202)
        answer = (await pushed.send("GET", "v2/_dockyard/tags/a/b/latest")).expect(200)
        assert answer.json()["history"][1] == {
            **answer.json()["history"][1],
            "state": "trash",
            "item": await item(pushed),
        }
        (await pushed.send("DELETE", f"v2/_dockyard/trash/{await item(pushed)}")).expect(202)
        assert await history(pushed) == [(TWO.digest, "current"), (ONE.digest, "gone")]

    async def test_history_of_a_removed_tag(self, pushed: Registry) -> None:
        (await pushed.send("DELETE", "v2/a/b/manifests/latest")).expect(202)
        assert await history(pushed) == [(TWO.digest, "kept"), (ONE.digest, "kept")]

    async def test_history_of_a_tree_that_distribution_wrote(
        self, disk: Registry, tmp_path: Path
    ) -> None:
        tops = [image(f"old {number}") for number in range(3)]
        for number, top in enumerate(tops):
            for content in (*top.blobs, top.manifest):
                write(blob_file(tmp_path, content.digest), content.body)
                below = "_manifests/revisions" if content is top.manifest else "_layers"
                link(tmp_path, f"a/b/{below}/{content.digest.replace(':', '/')}", content.digest)
            index = f"a/b/_manifests/tags/latest/index/{top.digest.replace(':', '/')}"
            when = 1_500_000_000 + number
            os.utime(link(tmp_path, index, top.digest), (when, when))
        link(tmp_path, "a/b/_manifests/tags/latest/current", tops[2].digest)
        answer = (await disk.send("GET", "v2/_dockyard/tags/a/b/latest")).expect(200)
        assert answer.json()["history"] == [
            {"digest": tops[2].digest, "moved": "2017-07-14T02:40:02+00:00", "state": "current"},
            {"digest": tops[1].digest, "moved": "2017-07-14T02:40:01+00:00", "state": "kept"},
            {"digest": tops[0].digest, "moved": "2017-07-14T02:40:00+00:00", "state": "kept"},
        ]
        (await rollback(disk)).expect(200)
        await assert_served(disk, tops[1], "latest")

    async def test_history_of_nothing(self, pushed: Registry) -> None:
        for path in ("a/b/v3", "a/v1", "nothing/v1"):
            answer = await pushed.send("GET", f"v2/_dockyard/tags/{path}")
            answer.refused(404, "MANIFEST_UNKNOWN")


class TestRollback:
    async def test_rollback_to_what_it_pointed_to_before(self, pushed: Registry) -> None:
        answer = (await rollback(pushed)).expect(200)
        assert answer.json() == {"name": "a/b", "tag": "latest", "digest": ONE.digest}
        await assert_served(pushed, ONE, "latest")

    async def test_rollback_twice_leads_back(self, pushed: Registry) -> None:
        for expected in (ONE, TWO, ONE):
            await asyncio.sleep(0.02)
            assert (await rollback(pushed)).expect(200).json()["digest"] == expected.digest
            await assert_served(pushed, expected, "latest")

    async def test_rollback_to_a_digest(self, pushed: Registry) -> None:
        (await rollback(pushed, "v1", f"?digest={TWO.digest}")).expect(200)
        await assert_served(pushed, TWO, "v1")

    async def test_rollback_brings_back_a_removed_tag(self, pushed: Registry) -> None:
        (await pushed.send("DELETE", "v2/a/b/manifests/latest")).expect(202)
        (await rollback(pushed)).expect(200)
        await assert_served(pushed, TWO, "latest")

    async def test_rollback_after_untagged_ones_were_collected(
        self, pushed: Registry, storage: Storage
    ) -> None:
        (await pushed.send("DELETE", "v2/a/b/manifests/v1")).expect(202)
        await collect(storage, untagged=True)
        (await pushed.manifest("a/b", ONE.digest)).refused(404, "MANIFEST_UNKNOWN")
        assert (ONE.digest, "trash") in await history(pushed)
        (await rollback(pushed)).expect(200)
        await assert_served(pushed, ONE, "latest")
        await collect(storage, untagged=True)
        await assert_served(pushed, ONE, "latest")

    async def test_rollback_where_everything_was_collected(
        self, pushed: Registry, storage: Storage
    ) -> None:
        (await pushed.send("DELETE", "v2/a/b/manifests/v1")).expect(202)
        await collect(storage, untagged=True, keep=timedelta(0))
        (await rollback(pushed)).refused(404, "MANIFEST_UNKNOWN")
        (await rollback(pushed, query=f"?digest={ONE.digest}")).refused(404, "MANIFEST_UNKNOWN")
        await assert_served(pushed, TWO, "latest")

    async def test_rollback_of_nothing(self, pushed: Registry) -> None:
        (await rollback(pushed, "v3")).refused(404, "MANIFEST_UNKNOWN")
        (await rollback(pushed, "v1")).refused(404, "MANIFEST_UNKNOWN")
        unknown = digest_of(b"unknown")
        (await rollback(pushed, "v1", f"?digest={unknown}")).refused(404, "MANIFEST_UNKNOWN")

    @pytest.mark.parametrize(
        "digest", ["", "latest", "sha256:00", "md5:" + "0" * 32, "sha256:../x"]
    )
    async def test_rollback_to_what_is_no_digest(self, pushed: Registry, digest: str) -> None:
        (await rollback(pushed, query=f"?digest={digest}")).refused(400, "DIGEST_INVALID")
        await assert_served(pushed, TWO, "latest")

    async def test_rollback_does_not_need_deletion(self, make: MakeRegistry) -> None:
        registry = make(keep=WEEK, delete_enabled=False)
        await registry.push("a/b", ONE, "latest")
        await asyncio.sleep(0.02)
        await registry.push("a/b", TWO, "latest")
        (await rollback(registry)).expect(200)


class TestRemove:
    async def test_remove_a_repository(self, pushed: Registry) -> None:
        await pushed.push("a", ONE, "v1")
        await pushed.push("a/b/c", ONE, "v1")
        answer = (await pushed.send("DELETE", "v2/_dockyard/repositories/a/b")).expect(202)
        assert answer.body == b""
        (await pushed.send("GET", "v2/a/b/tags/list")).refused(404, "NAME_UNKNOWN")
        (await pushed.manifest("a/b", "latest")).expect(404)
        (await pushed.blob("a/b", ONE.blobs[0].digest)).expect(404)
        catalog = (await pushed.send("GET", "v2/_catalog")).json()["repositories"]
        assert catalog == ["a", "a/b/c"]
        (only,) = await items(pushed)
        assert only["repository"] == "a/b"
        assert only["tags"] == {"latest": TWO.digest, "v1": ONE.digest}
        assert set(only["manifests"]) == {ONE.digest, TWO.digest}

    async def test_remove_what_is_not_there(self, pushed: Registry) -> None:
        for name in ("a", "nothing"):
            answer = await pushed.send("DELETE", f"v2/_dockyard/repositories/{name}")
            answer.refused(404, "NAME_UNKNOWN")

    async def test_remove_ends_uploads(self, pushed: Registry) -> None:
        upload = await pushed.begin("a/b")
        (await pushed.send("DELETE", "v2/_dockyard/repositories/a/b")).expect(202)
        answer = await pushed.finish(upload.location, b"x", b"x")
        answer.refused(404, "BLOB_UPLOAD_UNKNOWN")

    async def test_remove_and_restore_and_push_in_any_order(self, pushed: Registry) -> None:
        (await pushed.send("DELETE", "v2/_dockyard/repositories/a/b")).expect(202)
        three = multi_platform("three")
        await pushed.push("a/b", three, "latest")
        answer = (await restore(pushed, await item(pushed))).expect(200)
        assert answer.json()["taken"] == ["latest"]
        await assert_served(pushed, three, "latest")
        await assert_served(pushed, ONE, "v1")
        await assert_served(pushed, TWO, TWO.digest)


class TestTrash:
    async def test_trash_has_nothing_at_first(self, registry: Registry) -> None:
        answer = (await registry.send("GET", "v2/_dockyard/trash")).expect(200)
        assert answer.json() == {"items": []}

    async def test_trash_lists_what_was_removed(self, pushed: Registry) -> None:
        (await pushed.send("DELETE", f"v2/a/b/manifests/{TWO.digest}")).expect(202)
        (only,) = await items(pushed)
        assert list(only) == ["id", "repository", "removed", "tags", "manifests", "blobs"]
        assert only["repository"] == "a/b"
        assert only["tags"] == {"latest": TWO.digest}
        assert only["manifests"] == [TWO.digest]
        assert only["blobs"] == 0
        removed = datetime.fromisoformat(only["removed"])
        assert f"{removed:%Y%m%dT%H%M%SZ}-" == only["id"][:17]

    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    async def test_trash_in_pages(self, registry: Registry, size: int) -> None:
        for number in range(3):
            await registry.push("a/b", ONE, f"v{number}")
            (await registry.send("DELETE", f"v2/a/b/manifests/v{number}")).expect(202)
        pages = await registry.pages(f"v2/_dockyard/trash?n={size}&repository=a/b")
        listed = [[each["id"] for each in page.json()["items"]] for page in pages]
        assert [each for page in listed for each in page] == [
            each["id"] for each in await items(registry)
        ]
        assert all(len(page) == size for page in listed[:-1])
        assert len(pages) == -(-3 // size)

    async def test_trash_of_one_repository(self, registry: Registry) -> None:
        for name in ("a/b", "c"):
            await registry.push(name, ONE, "v1")
            (await registry.send("DELETE", f"v2/{name}/manifests/v1")).expect(202)
        for name, count in (("c", 1), ("a", 0), ("..", 0), ("%ff", 0), ("", 0)):
            answer = await registry.send("GET", f"v2/_dockyard/trash?repository={name}")
            assert [each["repository"] for each in answer.expect(200).json()["items"]] == [
                name
            ] * count

    async def test_trash_a_page_of_none(self, pushed: Registry) -> None:
        (await pushed.send("DELETE", "v2/a/b/manifests/v1")).expect(202)
        answer = (await pushed.send("GET", "v2/_dockyard/trash?n=0")).expect(200)
        assert answer.json() == {"items": []}
        assert answer.next_page is None

    @pytest.mark.parametrize("number", BAD_NUMBERS)
    async def test_trash_a_page_of_what_is_no_number(self, registry: Registry, number: str) -> None:
        answer = await registry.send("GET", f"v2/_dockyard/trash?n={number}")
        answer.refused(400, "PAGINATION_NUMBER_INVALID")


class TestRestore:
    async def test_restore_a_manifest_with_its_tags(self, pushed: Registry) -> None:
        (await pushed.send("DELETE", f"v2/a/b/manifests/{TWO.digest}")).expect(202)
        answer = (await restore(pushed, await item(pushed))).expect(200)
        assert answer.json() == {
            "repository": "a/b",
            "manifests": [TWO.digest],
            "tags": ["latest"],
            "taken": [],
            "incomplete": {},
        }
        await assert_served(pushed, TWO, "latest")
        assert await items(pushed) == []

    async def test_restore_a_tag_that_was_set_again(self, pushed: Registry) -> None:
        (await pushed.send("DELETE", f"v2/a/b/manifests/{TWO.digest}")).expect(202)
        await asyncio.sleep(0.02)
        await pushed.push("a/b", ONE, "latest")
        answer = (await restore(pushed, await item(pushed))).expect(200)
        assert answer.json()["taken"] == ["latest"]
        assert answer.json()["tags"] == []
        await assert_served(pushed, ONE, "latest")
        assert await history(pushed) == [(ONE.digest, "current"), (TWO.digest, "kept")]

    async def test_restore_a_link_to_a_blob(self, pushed: Registry) -> None:
        digest = ONE.blobs[0].digest
        (await pushed.send("DELETE", f"v2/a/b/blobs/{digest}")).expect(202)
        (await pushed.blob("a/b", digest)).expect(404)
        (only,) = await items(pushed)
        assert only["blobs"] == 1
        (await restore(pushed, only["id"])).expect(200)
        (await pushed.blob("a/b", digest)).expect(200)

    async def test_restore_what_lacks_something(self, pushed: Registry, storage: Storage) -> None:
        (await pushed.send("DELETE", f"v2/a/b/manifests/{TWO.digest}")).expect(202)
        await storage.delete(layout.blob(Digest.parse(TWO.blobs[0].digest)))
        name = await item(pushed)
        answer = (await restore(pushed, name)).expect(200)
        assert TWO.blobs[0].digest in answer.json()["incomplete"][TWO.digest]
        assert answer.json()["manifests"] == []
        assert await item(pushed) == name

    async def test_restore_twice(self, pushed: Registry) -> None:
        (await pushed.send("DELETE", "v2/a/b/manifests/v1")).expect(202)
        name = await item(pushed)
        (await restore(pushed, name)).expect(200)
        (await restore(pushed, name)).refused(404, "MANIFEST_UNKNOWN")

    async def test_restore_does_not_need_deletion(
        self, pushed: Registry, make: MakeRegistry
    ) -> None:
        (await pushed.send("DELETE", "v2/a/b/manifests/v1")).expect(202)
        (await restore(make(keep=WEEK, delete_enabled=False), await item(pushed))).expect(200)


class TestDestroy:
    async def test_destroy_an_item(self, pushed: Registry, storage: Storage) -> None:
        (await pushed.send("DELETE", f"v2/a/b/manifests/{TWO.digest}")).expect(202)
        name = await item(pushed)
        (await pushed.send("DELETE", f"v2/_dockyard/trash/{name}")).expect(202)
        assert await items(pushed) == []
        (await pushed.send("DELETE", f"v2/_dockyard/trash/{name}")).refused(404, "MANIFEST_UNKNOWN")
        await collect(storage)
        assert not await storage.exists(layout.blob(Digest.parse(TWO.digest)))


class TestWrongInput:
    """Nothing of it is a failure of ours, and nothing outside the item or the tag is touched."""

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("tag", BAD_TAGS)
    async def test_history_and_rollback_of_what_is_no_tag(
        self, pushed: Registry, method: str, tag: str
    ) -> None:
        (await pushed.send(method, f"v2/_dockyard/tags/a/b/{tag}")).expect(404)

    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_remove_what_is_no_repository(self, pushed: Registry, name: str) -> None:
        answer = await pushed.send("DELETE", f"v2/_dockyard/repositories/{name}")
        answer.expect(404, 308)
        await assert_served(pushed, TWO, "latest")

    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    @pytest.mark.parametrize("name", BAD_ITEMS)
    async def test_restore_and_destroy_what_is_no_item(
        self, pushed: Registry, storage: Storage, method: str, name: str
    ) -> None:
        (await pushed.send("DELETE", "v2/a/b/manifests/v1")).expect(202)
        before = await items(pushed)
        (await pushed.send(method, f"v2/_dockyard/trash/{name}")).expect(404)
        assert await items(pushed) == before
        assert await storage.exists(layout.BLOBS)
        await assert_served(pushed, TWO, "latest")

    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    async def test_restore_and_destroy_what_is_not_there(
        self, pushed: Registry, method: str
    ) -> None:
        answer = await pushed.send(method, f"v2/_dockyard/trash/{NO_ITEM}")
        answer.refused(404, "MANIFEST_UNKNOWN")
        assert NO_ITEM in (answer.facts.detail or "")

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            ("tags/a/b/latest", "GET, POST"),
            ("repositories/a/b", "DELETE"),
            ("trash", "GET"),
            (f"trash/{NO_ITEM}", "DELETE, POST"),
        ],
    )
    async def test_other_methods_are_not_allowed(
        self, pushed: Registry, path: str, allowed: str
    ) -> None:
        for method in ("PUT", "PATCH", "HEAD"):
            answer = (await pushed.send(method, f"v2/_dockyard/{path}")).expect(405)
            assert answer.header("Allow") == allowed

    @pytest.mark.parametrize("path", ["", "nothing", "tags", "tags/latest", "trash/a/b", "_/x"])
    async def test_nothing_else_is_there(self, pushed: Registry, path: str) -> None:
        (await pushed.send("GET", f"v2/_dockyard/{path}")).expect(404)


class TestNotAllowed:
    @pytest.mark.parametrize("path", ["repositories/a/b", f"trash/{NO_ITEM}"])
    async def test_remove_and_destroy_need_deletion(self, make: MakeRegistry, path: str) -> None:
        registry = make(keep=WEEK, delete_enabled=False)
        await registry.push("a/b", ONE, "v1")
        (await registry.send("DELETE", f"v2/_dockyard/{path}")).refused(405, "UNSUPPORTED")
        await assert_served(registry, ONE, "v1")

    async def test_a_read_only_registry_only_tells(
        self, pushed: Registry, make: MakeRegistry
    ) -> None:
        (await pushed.send("DELETE", "v2/a/b/manifests/v1")).expect(202)
        name = await item(pushed)
        registry = make(keep=WEEK, read_only=True)
        for method, path in (
            ("POST", "tags/a/b/latest"),
            ("DELETE", "repositories/a/b"),
            ("POST", f"trash/{name}"),
            ("DELETE", f"trash/{name}"),
        ):
            (await registry.send(method, f"v2/_dockyard/{path}")).expect(405)
        assert await item(registry) == name
        assert len(await history(registry)) == 2


async def test_below_a_prefix_the_pages_lead_on(make: MakeRegistry) -> None:
    registry = make(keep=WEEK, prefix="/below/")
    for tag in ("v1", "v2"):
        await registry.push("a/b", ONE, tag)
        (await registry.send("DELETE", f"v2/a/b/manifests/{tag}")).expect(202)
    answer = (await registry.send("GET", "v2/_dockyard/trash?n=1")).expect(200)
    assert (answer.next_page or "").startswith("/below/v2/_dockyard/trash?last=")
    assert len(await registry.pages("v2/_dockyard/trash?n=1")) == 2


async def test_a_trash_that_cannot_be_written_is_trouble_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    registry = Registry(FilesystemStorage(tmp_path), keep=WEEK)
    await registry.push("a/b", ONE, "v1")
    trash = tmp_path / layout.PRIVATE / "trash"
    trash.write_text("no directory")
    (await registry.send("DELETE", "v2/_dockyard/repositories/a/b")).expect(503)
    await assert_served(registry, ONE, "v1")
    trash.unlink()
    (await registry.send("DELETE", "v2/_dockyard/repositories/a/b")).expect(202)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def link(root: Path, directory: str, digest: str) -> Path:
    return write(link_file(root, f"{directory}/link"), digest.encode())
