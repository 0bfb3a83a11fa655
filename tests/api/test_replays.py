"""Answers that are given again: the same as before, and only while they are true."""

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dockyard.config.access import AccessSettings
from dockyard.core.leases import MARK_LENGTH
from dockyard.http import replays
from dockyard.oci.digest import Digest
from dockyard.storage import layout, witness
from dockyard.storage.filesystem import FilesystemStorage
from tests.api.entrance import HASH, basic
from tests.api.worker import REPOSITORY, Worker, head_of, unique, working
from tests.parts.images import DOCKER_LAYER, Content, Image, image as make_image


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written a moment ago counts as settled."""
    monkeypatch.setattr(witness, "SETTLED", 0)


@pytest.fixture
def worker(tmp_path: Path, settled: None) -> Iterator[Worker]:  # noqa: ARG001 -- it has to be so
    with working(tmp_path) as worker:
        yield worker


@pytest.fixture
def image() -> Image:
    return make_image("seed", docker=True)


def place(worker: Worker, path: str) -> Path:
    return worker.folder / "root" / path


def tag_link(worker: Worker) -> Path:
    return place(worker, layout.tag_current(REPOSITORY, "v1"))


def revision_link(worker: Worker, image: Image) -> Path:
    return place(worker, layout.revision_link(REPOSITORY, Digest.parse(image.digest)))


class TestTheSame:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_a_manifest_by_tag(self, worker: Worker, image: Image, method: str) -> None:
        await worker.push(image, "v1")
        await worker.learn(head_of("manifests/v1", method))

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_a_manifest_by_digest(self, worker: Worker, image: Image, method: str) -> None:
        await worker.push(image, "v1")
        await worker.learn(head_of(f"manifests/{image.digest}", method))

    async def test_a_small_blob(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        answer = await worker.learn(head_of(f"blobs/{image.blobs[0].digest}"))
        assert answer.endswith(image.blobs[0].body)

    async def test_each_has_an_identifier_of_its_own(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        head = head_of("manifests/v1")
        await worker.learn(head)
        answers = [worker.again(head) for _ in range(3)]
        assert len(set(answers)) == 3

    @pytest.mark.parametrize("formatter", ["text", "json", "logstash"])
    @pytest.mark.parametrize("forwarded", [False, True])
    @pytest.mark.usefixtures("settled")
    async def test_the_lines_of_the_logs(
        self, tmp_path: Path, image: Image, formatter: str, *, forwarded: bool
    ) -> None:
        fields = {"X-Forwarded-For": "2001:db8::1", "Referer": 'http://a/"%d"'}
        head = head_of("manifests/v1", fields=fields if forwarded else None)
        with working(tmp_path, log={"formatter": formatter, "fields": {"a": "50%"}}) as worker:
            await worker.push(image, "v1")
            await worker.learn(head)
            await asyncio.sleep(0)
            before, again = map(unique, worker.lines.read_text().splitlines()[-2:])
            assert before == again
            assert "response completed" in again
            *_, before, again = worker.access.read_text().splitlines()
            assert re.sub(r"\[[^]]*]", "", before) == re.sub(r"\[[^]]*]", "", again)

    @pytest.mark.parametrize("claim", ["", "nobody", "2001:db8::1"])
    async def test_who_asks_is_told_of_each(self, worker: Worker, image: Image, claim: str) -> None:
        """A claim that is no address is passed over, for whoever makes it."""
        await worker.push(image, "v1")
        head = head_of("manifests/v1", fields={"X-Forwarded-For": claim} if claim else None)
        await worker.learn(head)
        assert worker.again(head, ("198.51.100.1", 80))
        await asyncio.sleep(0)
        told = claim if ":" in claim else "198.51.100.1"
        line = worker.lines.read_text().splitlines()[-1]
        assert f'remoteaddr="{told}{"" if told == claim else ":80"}"' in line
        assert worker.access.read_text().splitlines()[-1].startswith(f"{told} - - [")

    async def test_the_pull_is_noted(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        head = head_of("manifests/v1")
        await worker.learn(head)
        known = worker.log._known()  # noqa: SLF001 -- what it tells is told nowhere else
        assert known is not None
        pulls = known._pulls  # noqa: SLF001 -- likewise
        assert pulls._fresh == {(REPOSITORY, Digest.parse(image.digest))}  # noqa: SLF001
        pulls._fresh.clear()  # noqa: SLF001
        pulls._forget()  # noqa: SLF001 -- the day has ended
        assert worker.again(head)
        assert pulls._fresh == {(REPOSITORY, Digest.parse(image.digest))}  # noqa: SLF001


class TestNotTrueAnyMore:
    async def test_the_tag_moved(self, worker: Worker, image: Image) -> None:
        other = make_image("other", docker=True)
        await worker.push(image, "v1")
        head = head_of("manifests/v1")
        await worker.learn(head)
        await worker.push(other, "v1")
        assert worker.again(head) is None
        assert other.manifest.body in await worker.learn(head)

    async def test_another_program_writes_into_the_tag(self, worker: Worker, image: Image) -> None:
        """docker-registry 2.8.2 writes links in place: the inode and the length stay."""
        other = make_image("other", docker=True)
        await worker.push(image, "v1")
        await worker.push(other, "v2")
        head = head_of("manifests/v1")
        await worker.learn(head)
        before = tag_link(worker).stat()
        with tag_link(worker).open("r+") as link:
            link.write(other.digest)
        os.utime(tag_link(worker), ns=(before.st_atime_ns, before.st_mtime_ns))
        assert worker.again(head) is None
        assert other.manifest.body in await worker.ask(head)

    @pytest.mark.parametrize(
        "remove",
        [
            lambda worker, _: shutil.rmtree(place(worker, layout.repository(REPOSITORY))),
            lambda worker, _: tag_link(worker).unlink(),
            lambda worker, image: revision_link(worker, image).unlink(),
            lambda worker, image: shutil.rmtree(revision_link(worker, image).parent),
        ],
        ids=["repository", "tag", "link", "revision"],
    )
    async def test_something_is_removed(
        self, worker: Worker, image: Image, remove: Callable[[Worker, Image], None]
    ) -> None:
        await worker.push(image, "v1")
        head = head_of("manifests/v1")
        await worker.learn(head)
        remove(worker, image)
        assert worker.again(head) is None
        assert b" 404 " in await worker.ask(head)

    async def test_a_blob_is_taken_from_the_repository(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        blob = image.blobs[0].digest
        head = head_of(f"blobs/{blob}")
        await worker.learn(head)
        place(worker, layout.layer_link(REPOSITORY, Digest.parse(blob))).unlink()
        assert worker.again(head) is None

    async def test_the_bytes_of_a_blob_are_gone(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        blob = image.blobs[0].digest
        head = head_of(f"blobs/{blob}")
        await worker.learn(head)
        place(worker, layout.blob(Digest.parse(blob))).unlink()
        assert worker.again(head) is None

    async def test_what_changed_just_now_is_not_kept(self, tmp_path: Path, image: Image) -> None:
        """Its time would not tell of another change in the same tick of the clock."""
        with working(tmp_path) as worker:
            await worker.push(image, "v1")
            head = head_of("manifests/v1")
            for _ in range(3):
                await worker.ask(head)
                assert worker.again(head) is None


class TestPromises:
    """Who asks for a blob by HEAD relies on the answer: each time that is written down first."""

    def _lease(self, worker: Worker, image: Image) -> Path:
        return place(worker, layout.lease(Digest.parse(image.blobs[0].digest), REPOSITORY))

    def _head(self, image: Image, fields: Mapping[str, str] | None = None) -> bytes:
        return head_of(f"blobs/{image.blobs[0].digest}", "HEAD", fields)

    async def test_it_is_written_down_each_time(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        await worker.learn(self._head(image))
        lease = self._lease(worker, image)
        before = lease.read_bytes()
        assert worker.again(self._head(image))
        mark = lease.read_bytes().removeprefix(before)
        assert mark == before[-MARK_LENGTH:]  # as the ordinary way noted it
        assert mark.startswith(b"+")

    async def test_for_who_asks(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        await worker.learn(self._head(image))
        assert worker.again(self._head(image), ("198.51.100.1", 80))
        assert worker.again(self._head(image), ("198.51.100.1", 81))
        mine, one, two = _last_marks(self._lease(worker, image), 3)
        assert mine != one == two

    async def test_for_whom_a_proxy_asks(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        head = self._head(image, {"X-Forwarded-For": "198.51.100.1, 192.0.2.1"})
        await worker.learn(head)
        assert worker.again(head, ("203.0.113.9", 80))
        await worker.ask(self._head(image, {"X-Real-IP": "198.51.100.1"}))
        one, two, three = _last_marks(self._lease(worker, image), 3)
        assert one == two == three

    async def test_a_large_blob_too(self, worker: Worker) -> None:
        large = Content(DOCKER_LAYER, bytes(replays.BODY_LIMIT + 1))
        await worker.push(Image(large, (large,)))
        answer = await worker.learn(head_of(f"blobs/{large.digest}", "HEAD"))
        assert b"Content-Length: %d\r\n" % len(large.body) in answer

    @pytest.mark.parametrize("path", [layout.layer_link, lambda _, digest: layout.blob(digest)])
    async def test_what_went_is_not_promised(
        self, worker: Worker, image: Image, path: Callable[[str, Digest], str]
    ) -> None:
        await worker.push(image, "v1")
        await worker.learn(self._head(image))
        lease = self._lease(worker, image)
        before = lease.read_bytes()
        place(worker, path(REPOSITORY, Digest.parse(image.blobs[0].digest))).unlink()
        assert worker.again(self._head(image)) is None
        told, withdrawn = _last_marks(lease, 2)
        assert (told[:1], withdrawn[:1]) == (b"+", b"~")
        assert told[1:] == withdrawn[1:] == before[1 - MARK_LENGTH :]
        assert b" 404 " in await worker.ask(self._head(image))

    async def test_a_collector_goes_first(self, worker: Worker, image: Image) -> None:
        """Who holds the lock of the repository is waited for, the ordinary way."""
        await worker.push(image, "v1")
        await worker.learn(self._head(image))
        before = self._lease(worker, image).read_bytes()
        async with FilesystemStorage(worker.folder / "root").lock("repository", REPOSITORY):
            assert worker.again(self._head(image)) is None
        assert self._lease(worker, image).read_bytes() == before
        assert worker.again(self._head(image))

    async def test_where_a_lease_was_removed_the_ordinary_way_makes_one(
        self, worker: Worker, image: Image
    ) -> None:
        await worker.push(image, "v1")
        await worker.learn(self._head(image))
        shutil.rmtree(self._lease(worker, image).parent)
        assert worker.again(self._head(image)) is None
        await worker.ask(self._head(image))
        assert self._lease(worker, image).read_bytes().startswith(b"+")
        assert worker.again(self._head(image))

    async def test_a_truncated_blob_is_not_kept(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        await worker.ask(self._head(image))
        blob = place(worker, layout.blob(Digest.parse(image.blobs[0].digest)))
        os.truncate(blob, 1)
        for _ in range(3):
            assert b" 404 " in await worker.ask(self._head(image))
            assert worker.again(self._head(image)) is None


def _last_marks(lease: Path, count: int) -> list[bytes]:
    marks = lease.read_bytes()
    starts = range(len(marks) - count * MARK_LENGTH, len(marks), MARK_LENGTH)
    return [marks[start : start + MARK_LENGTH] for start in starts]


class TestNotKept:
    async def _never(self, worker: Worker, head: bytes) -> None:
        for _ in range(4):
            await worker.ask(head)
            assert worker.again(head) is None

    async def test_what_is_asked_once(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        head = head_of("manifests/v1")
        await worker.ask(head)
        assert worker.again(head) is None

    @pytest.mark.parametrize(
        "fields",
        [
            {"If-None-Match": '"sha256:' + 64 * "0" + '"'},
            {"Range": "bytes=0-3"},
            {"If-Range": '"a"'},
            {"Cookie": "a=b"},
        ],
    )
    async def test_what_has_conditions(
        self, worker: Worker, image: Image, fields: dict[str, str]
    ) -> None:
        await worker.push(image, "v1")
        for what in ("manifests/v1", f"blobs/{image.blobs[0].digest}"):
            await self._never(worker, head_of(what, fields=fields))

    async def test_a_query(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        await self._never(worker, head_of("manifests/v1?a=b"))

    async def test_what_says_that_the_connection_ends(self, tmp_path: Path, image: Image) -> None:
        with working(tmp_path, http={"headers": {"connection": ["close"]}}) as worker:
            await worker.push(image, "v1")
            assert b"onnection: close" in await worker.ask(head_of("manifests/v1"))
            await self._never(worker, head_of("manifests/v1"))

    async def test_large_blobs(self, worker: Worker) -> None:
        large = Content(DOCKER_LAYER, bytes(replays.BODY_LIMIT + 1))
        await worker.push(Image(large, (large,)))
        await self._never(worker, head_of(f"blobs/{large.digest}"))

    async def test_a_damaged_blob(self, worker: Worker, image: Image) -> None:
        await worker.push(image, "v1")
        blob = image.blobs[0]
        place(worker, layout.blob(Digest.parse(blob.digest))).write_bytes(bytes(len(blob.body)))
        await self._never(worker, head_of(f"blobs/{blob.digest}"))

    async def test_what_is_not_there(self, worker: Worker) -> None:
        await self._never(worker, head_of("manifests/v1"))

    @pytest.mark.usefixtures("settled")
    async def test_pulls_that_the_audit_log_tells(self, tmp_path: Path, image: Image) -> None:
        audit = {"enabled": True, "path": str(tmp_path / "audit"), "pulls": True}
        with working(tmp_path, audit=audit) as worker:
            await worker.push(image, "v1")
            await self._never(worker, head_of("manifests/v1"))

    async def test_the_same_twice(self, worker: Worker, image: Image) -> None:
        """Two with the same bytes at once: what is kept counts once."""
        await worker.push(image, "v1")
        head = head_of("manifests/v1")
        await worker.ask(head)
        await asyncio.gather(*(worker.ask(head) for _ in range(3)))
        known = worker.log._known()  # noqa: SLF001 -- nothing else shows what is kept
        assert known is not None
        assert known._bytes == len(image.manifest.body)  # noqa: SLF001 -- likewise

    async def test_more_than_there_is_room_for(
        self, worker: Worker, image: Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replays, "MOST", 3)
        await worker.push(image, "v1")
        heads = [head_of("manifests/v1", fields={"User-Agent": str(i)}) for i in range(4)]
        for head in heads:
            await worker.learn(head)
        assert [worker.again(head) is not None for head in heads] == [False] * 3 + [True]


@pytest.mark.usefixtures("settled")
class TestGuarded:
    def _sections(self, folder: Path) -> dict[str, Any]:
        users = folder / "htpasswd"
        users.write_text(f"reader:{HASH}\npusher:{HASH}\n")
        closed = [
            {"repositories": ["**"], "actions": ["pull"], "who": ["user:reader"]},
            {"repositories": ["**"], "actions": ["*"], "who": ["user:pusher"]},
        ]
        return {
            "auth": {"htpasswd": {"realm": "registry", "path": str(users)}},
            "access": {"rules": closed},
        }

    async def test_who_may_is_answered_again_and_nobody_else(
        self, tmp_path: Path, image: Image
    ) -> None:
        with working(tmp_path, **self._sections(tmp_path)) as worker:
            await worker.push(image, "v1", login="pusher")
            head = head_of("manifests/v1", fields=basic("reader"))
            await worker.learn(head)
            for other in ({}, basic("reader", "wrong"), basic("stranger")):
                stranger = head_of("manifests/v1", fields=other)
                assert worker.again(stranger) is None
                assert b" 401 " in await worker.ask(stranger)
                assert worker.again(stranger) is None
            told = worker.lines.read_text().splitlines()
            assert sum("auth.user.name=reader" in line for line in told) == 3

    async def test_the_gate_looks_again(
        self, tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replays, "ADMITTED", 0.2)
        with working(tmp_path, **self._sections(tmp_path)) as worker:
            await worker.push(image, "v1", login="pusher")
            head = head_of("manifests/v1", fields=basic("reader"))
            await worker.learn(head)
            await asyncio.sleep(0.25)
            assert worker.again(head) is None
            await worker.ask(head)
            assert worker.again(head)  # it was let in once more
            (tmp_path / "htpasswd").write_text(f"pusher:{HASH}\n")
            await asyncio.sleep(0.25)
            assert worker.again(head) is None
            assert b" 401 " in await worker.ask(head)
            assert worker.again(head) is None

    async def test_what_old_rules_let_in_ends_with_them(self, tmp_path: Path, image: Image) -> None:
        sections = self._sections(tmp_path)
        anybody = {"repositories": ["**"], "actions": ["pull"], "who": ["anonymous"]}
        closed = sections["access"]["rules"]
        sections["access"] = {"rules": [anybody, *closed]}
        with working(tmp_path, **sections) as worker:
            await worker.push(image, "v1", login="pusher")
            head = head_of("manifests/v1")
            await worker.ask(head)
            worker.offered = AccessSettings.model_validate({"rules": closed})
            assert b" 200 " in await worker.ask(head, reload=True)
            assert worker.again(head) is None
            assert b" 401 " in await worker.ask(head)

    async def test_no_password_is_kept(self, tmp_path: Path, image: Image) -> None:
        with working(tmp_path, **self._sections(tmp_path)) as worker:
            await worker.push(image, "v1", login="pusher")
            head = head_of("manifests/v1", fields=basic("reader"))
            await worker.learn(head)
            known = worker.log._known()  # noqa: SLF001 -- nothing else shows what is kept
            assert known is not None
            assert not known._open  # noqa: SLF001 -- likewise
            (kept,) = known._hashed.values()  # noqa: SLF001 -- likewise
            shown = repr(kept).encode() + repr(known._seen).encode()  # noqa: SLF001 -- likewise
            secret = basic("reader")["Authorization"].removeprefix("Basic ").encode()
            assert secret not in shown
