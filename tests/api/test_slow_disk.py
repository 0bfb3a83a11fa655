"""A disk that takes 50 ms for everything makes those wait who need it, and nobody else."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from dockyard.storage.filesystem import FilesystemStorage
from tests.api.registry import Registry
from tests.parts.images import image as make_image


DELAY: Final = 0.05
SECONDS: Final = 4.0
CLIENTS: Final = 8
BOUND: Final = 0.02
"""Seconds that the 99th percentile of those who need no disk may wait."""

SLOW: Final = (
    *("open", "stat", "fstat", "read", "pread", "preadv", "write", "getxattr", "setxattr"),
    *("scandir", "rename", "mkdir", "fsync", "unlink", "rmdir"),
)


def slow_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every call of the operating system for files take `DELAY`."""

    def delayed(call: Callable[..., Any]) -> Callable[..., Any]:
        def wait_and_call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 -- whatever `os` has
            time.sleep(DELAY)
            return call(*args, **kwargs)

        return wait_and_call

    for name in SLOW:
        monkeypatch.setattr(os, name, delayed(getattr(os, name)))


async def test_who_needs_no_disk_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(FilesystemStorage(tmp_path))
    image = make_image("seed")
    await registry.push("a/b", image, "v1")
    done: list[str] = []
    waited: list[float] = []
    end = time.monotonic() + SECONDS

    async def use(number: int) -> None:
        while time.monotonic() < end:
            (await registry.send("GET", "v2/a/b/manifests/v1")).expect(200)
            (await registry.blob("a/b", image.blobs[0].digest)).expect(200)
            (await registry.blob("a/b", image.blobs[0].digest, "HEAD")).expect(200)
            await registry.push_blob("a/b", f"{number}-{len(done)}".encode())
            done.append("")

    async def ask() -> None:
        while time.monotonic() < end:
            began = time.monotonic()
            (await registry.send("GET", "v2/")).expect(200)
            await asyncio.sleep(0)
            waited.append(time.monotonic() - began)
            await asyncio.sleep(0.002)

    with monkeypatch.context() as patch:
        slow_down(patch)
        await asyncio.gather(ask(), *(use(number) for number in range(CLIENTS)))
    assert len(done) >= CLIENTS
    slowest = sorted(waited)[int(len(waited) * 0.99)]
    print(f"{len(waited)} times, 99 % within {slowest * 1000:.1f} ms, most {max(waited):.3f} s")
    assert slowest < BOUND


async def test_once_it_is_prompt_again_threads_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FilesystemStorage(tmp_path)
    await storage.put("a", b"content")
    with monkeypatch.context() as patch:
        slow_down(patch)
        for _ in range(3):
            assert await storage.get("a", 10) == b"content"
        assert storage._prompt.is_lost  # noqa: SLF001 -- nothing else tells
    for _ in range(200):
        assert await storage.get("a", 10) == b"content"
    assert not storage._prompt.is_lost  # noqa: SLF001 -- likewise
