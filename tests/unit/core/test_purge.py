import errno
import os
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from dockyard.core.leases import Leases
from dockyard.core.purge import Purge
from dockyard.core.uploads import Uploads
from dockyard.storage import layout
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Storage
from tests.unit.core.trees import NOW, add_tag, now


WEEK = timedelta(days=7)
ID = "0190a5b2-0000-7000-8000-000000000000"


@pytest.fixture(params=["memory", "disk"])
def storage(request: pytest.FixtureRequest) -> Storage:
    """A storage of each driver in turn."""
    found: Storage = request.getfixturevalue(request.param)
    return found


async def begin(storage: Storage, name: str, started: bytes | None, identifier: str = ID) -> str:
    """Write what distribution writes for an upload; return its directory."""
    if started is not None:
        await storage.put(layout.upload_started(name, identifier), started)
    await storage.put(layout.upload_data(name, identifier), b"half a layer")
    return layout.upload(name, identifier)


def ago(age: timedelta) -> bytes:
    return (NOW - age).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


async def test_uploads_older_than_the_age_go(storage: Storage) -> None:
    old = await begin(storage, "team/app", ago(WEEK + timedelta(seconds=1)))
    older = await begin(storage, "a/b/c/d", ago(WEEK * 10))
    young = await begin(storage, "team/other", ago(WEEK - timedelta(seconds=1)))
    purged = await Purge(storage, now).run(WEEK, dry_run=False)
    assert set(purged.uploads) == {old, older}
    assert purged.failures == ()
    assert not await storage.exists(old)
    assert not await storage.exists(older)
    assert await storage.exists(young)


async def test_a_dry_run_tells_and_keeps(storage: Storage) -> None:
    old = await begin(storage, "a", ago(WEEK * 2))
    with capture_logs() as lines:
        for _ in range(2):
            purged = await Purge(storage, now).run(WEEK, dry_run=True)
            assert purged.uploads == (old,)
            assert await storage.exists(old)
    assert [(line["event"], line["path"]) for line in lines] == [("would purge upload", old)] * 2


@pytest.mark.parametrize(
    "started",
    [
        b"2025-12-31T00:00:00Z",
        b"2025-12-31T02:00:00+02:00",
        b"2025-12-31T00:00:00.123456789Z",
        b"2025-12-31T00:00:00",
    ],
)
async def test_times_are_read_in_every_form_of_rfc_3339(storage: Storage, started: bytes) -> None:
    old = await begin(storage, "a", started)
    assert (await Purge(storage, now).run(WEEK, dry_run=False)).uploads == (old,)


@pytest.mark.parametrize("started", [None, b"", b"nonsense", b"\xff\xfe", b"12345"])
async def test_an_upload_without_readable_time_goes_if_it_stays_so(
    storage: Storage, started: bytes | None
) -> None:
    """It may be one that begins at this moment."""
    path = await begin(storage, "a", started)
    purge = Purge(storage, now)
    assert (await purge.run(WEEK, dry_run=False)).uploads == ()
    assert await storage.exists(path)
    assert (await purge.run(WEEK, dry_run=False)).uploads == (path,)
    assert not await storage.exists(path)


async def test_an_upload_that_just_began_stays(storage: Storage) -> None:
    path = await begin(storage, "a", None)
    purge = Purge(storage, now)
    await purge.run(WEEK, dry_run=False)
    await begin(storage, "a", ago(timedelta(0)))
    assert (await purge.run(WEEK, dry_run=False)).uploads == ()
    assert await storage.exists(path)


async def test_our_own_uploads_are_read(storage: Storage) -> None:
    uploads = Uploads(storage, Leases(storage), lambda: NOW - WEEK * 2)
    begun = await uploads.begin("team/app")
    purged = await Purge(storage, now).run(WEEK, dry_run=False)
    assert purged.uploads == (layout.upload("team/app", begun.identifier),)


async def test_nothing_else_is_touched(storage: Storage) -> None:
    digest = await add_tag(storage, "a", "v1")
    await storage.put(layout.layer_link("a", digest), b"")
    await begin(storage, "a", ago(WEEK * 2))
    await Purge(storage, now).run(WEEK, dry_run=False)
    for path in (
        layout.blob(digest),
        layout.tag_current("a", "v1"),
        layout.revision_link("a", digest),
        layout.layer_link("a", digest),
    ):
        assert await storage.exists(path)


async def test_there_may_be_nothing_to_purge(storage: Storage) -> None:
    assert await Purge(storage, now).run(WEEK, dry_run=False) == await Purge(storage, now).run(
        WEEK, dry_run=True
    )


async def test_one_that_can_not_be_removed_does_not_stop_the_others(
    disk: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = await begin(disk, "a", ago(WEEK * 2))
    other = await begin(disk, "b", ago(WEEK * 2))
    replace = os.replace

    def refuse(source: str, target: str) -> None:
        if source.endswith(stuck):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", refuse)
        with capture_logs() as lines:
            purged = await Purge(disk, now).run(WEEK, dry_run=False)
    assert (purged.uploads, purged.failures) == ((other,), (stuck,))
    (line,) = (line for line in lines if line["log_level"] == "error")
    assert line["path"] == stuck


async def test_one_that_finishes_meanwhile_is_none() -> None:
    class Finishing(InMemoryStorage):
        @override
        async def get(self, path: str, limit: int) -> bytes:
            content = await super().get(path, limit)
            await self.delete(layout.upload("a", ID))
            return content

    storage = Finishing()
    await begin(storage, "a", ago(WEEK * 2))
    purged = await Purge(storage, now).run(WEEK, dry_run=False)
    assert (purged.uploads, purged.failures) == ((), ())


async def test_stray_files_do_no_harm(disk: FilesystemStorage, tmp_path: Path) -> None:
    old = await begin(disk, "a", ago(WEEK * 2))
    (tmp_path / layout.REPOSITORIES / "stray").write_text("x")
    (tmp_path / layout.uploads("a") / "stray").write_text("x")
    assert (await Purge(disk, now).run(WEEK, dry_run=False)).uploads == (old,)


async def test_a_directory_that_can_not_be_listed_does_not_stop_the_others(
    disk: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(disk, "a", ago(WEEK * 2))
    other = await begin(disk, "b", ago(WEEK * 2))
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("repositories/a"):
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with capture_logs() as lines:
        purged = await Purge(disk, now).run(WEEK, dry_run=False)
    assert purged.uploads == (other,)
    assert [line["path"] for line in lines if line["log_level"] == "error"] == [
        layout.repository("a")
    ]
