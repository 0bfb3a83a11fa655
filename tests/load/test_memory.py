"""Memory stays flat: a large layer pushed by 8 clients and pulled by 32 at once."""

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import pytest

from tests.live import LiveRegistry, Wire, memory
from tests.parts.programs import environment, require
from tests.registry_client import RegistryClient, with_query


NAME: Final = "load/layer"
WORKERS: Final = 2
MOST: Final = 200 << 20
"""Bytes a worker may ever hold, as issue and README say."""

STALLED: Final = 16
"""Clients that begin to pull and then read nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much, and by how many at once.

    Attributes:
        size: bytes of the layer.
        seconds: how long all pushes, and all pulls, may take.
    """

    size: int
    pushers: int
    pullers: int
    seconds: float

    @property
    def disk(self) -> int:
        """Bytes that the uploads need at once, and some more for others."""
        return self.pushers * self.size + (2 << 30)


ONE_GIGABYTE: Final = Load(size=1 << 30, pushers=8, pullers=32, seconds=300)
TEN_GIGABYTES: Final = Load(size=10 << 30, pushers=4, pullers=32, seconds=1800)
"""By half the clients: there is seldom room for eight such uploads."""


class Impatient:
    """Somebody who asks something small all the time, and remembers how long that took."""

    def __init__(self, address: str) -> None:
        self._ending = threading.Event()
        self._address = address
        self._waits: list[float] = []
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with RegistryClient(self._address) as client:
            while not self._ending.wait(0.05):
                began = time.monotonic()
                client.request("GET", "/v2/").expect(200)
                self._waits.append(time.monotonic() - began)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def report(self) -> str:
        """Return how long that took, for the reader."""
        ordered = sorted(self._waits)
        middle, most = ordered[len(ordered) // 2] * 1000, ordered[-1] * 1000
        seconds = time.monotonic() - self._began
        return f"{seconds:.0f} s, others waited {middle:.0f} ms, at most {most:.0f} ms"


@contextmanager
def room_for(load: Load, folder: Path) -> Iterator[None]:
    """Skip the test if the disk has no room for `load`, or fail in CI; tidy up afterwards."""
    free = shutil.disk_usage(folder).free
    if free < load.disk:
        reason = f"needs {load.disk >> 30} GiB of free disk, there are {free >> 30}"
        must_run = os.environ.get("CI") == "true" and load is ONE_GIGABYTE
        (pytest.fail if must_run else pytest.skip)(reason)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # gigabytes, which pytest would keep


def make_layer(path: Path, size: int) -> str:
    """Make a file of `size` bytes that needs no room on the disk; return its digest."""
    with path.open("wb") as file:
        file.write(os.urandom(4096))
        file.truncate(size)
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def curl(*arguments: str) -> "subprocess.Popen[str]":
    """Start a curl that says its status and how many bytes it received."""
    report = ("-o", os.devnull, "-w", "%{http_code} %{size_download}")
    return subprocess.Popen(
        [require("curl"), "-s", "-S", *report, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def outcomes(running: list["subprocess.Popen[str]"], seconds: float) -> list[str]:
    """Return what each of the programs said, once all of them have ended."""
    deadline = time.monotonic() + seconds
    try:
        return [each.communicate(timeout=deadline - time.monotonic())[0] for each in running]
    finally:
        for each in running:
            each.kill()
            each.wait()


def push(registry: LiveRegistry, load: Load, layer: Path, digest: str) -> None:
    """Push the layer by all clients at once: every other in one PUT, the others as a stream."""
    running, streams = [], []
    for number in range(load.pushers):
        with RegistryClient(registry.address) as client:
            location = client.start_upload(NAME)
        if number % 2:
            running.append(curl("-T", str(layer), with_query(location, digest=digest)))
        else:
            streams.append(location)
            chunked = ["-X", "PATCH", "-H", "Transfer-Encoding: chunked"]
            running.append(curl("-T", str(layer), *chunked, location))
    said = outcomes(running, load.seconds)
    assert said == ["202 0", "201 0"] * (load.pushers // 2), said
    with RegistryClient(registry.address) as client:
        for location in streams:
            status = client.request("GET", location).expect(204)
            assert status.header("Range") == f"0-{load.size - 1}"
            target = with_query(status.header("Location"), digest=digest)
            client.request("PUT", target, body=b"").expect(201)


def pull(registry: LiveRegistry, load: Load, digest: str) -> None:
    """Pull the layer by all clients at once, while others have stopped to read."""
    url = f"{registry.url}/v2/{NAME}/blobs/{digest}"
    wires = [Wire(registry.port) for _ in range(STALLED)]
    for wire in wires:
        wire.send(f"GET /v2/{NAME}/blobs/{digest} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    said = outcomes([curl(url) for _ in range(load.pullers)], load.seconds)
    for wire in wires:
        wire.reset()
    assert said == [f"200 {load.size}"] * load.pullers, said


def verify(registry: LiveRegistry, digest: str) -> None:
    """Pull once more and compare every byte."""
    command = f"{require('curl')} -s -S {registry.url}/v2/{NAME}/blobs/{digest} | sha256sum"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert f"sha256:{done.stdout.split()[0]}" == digest


def peaks(workers: list[int]) -> str:
    """Return the most memory each worker ever had, for the reader."""
    return " and ".join(f"{memory(pid, 'VmHWM') >> 20} MiB" for pid in workers)


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(ONE_GIGABYTE, id="1GB"),
        pytest.param(TEN_GIGABYTES, id="10GB", marks=pytest.mark.slow),
    ],
)
def test_workers_stay_small(tmp_path: Path, load: Load) -> None:
    settings = {"http": {"workers": WORKERS}}
    with room_for(load, tmp_path), LiveRegistry(tmp_path, settings=settings) as registry:
        digest = make_layer(tmp_path / "layer", load.size)
        workers = registry.workers
        report = [f"{load.size >> 30} GiB, at rest {peaks(workers)}"]
        with Impatient(registry.address) as others:
            push(registry, load, tmp_path / "layer", digest)
        report.append(f"pushed by {load.pushers}: {others.report()}; peak {peaks(workers)}")
        with Impatient(registry.address) as others:
            pull(registry, load, digest)
        report.append(f"pulled by {load.pullers}: {others.report()}; peak {peaks(workers)}")
        verify(registry, digest)
        print("\n" + "\n".join(report))
        assert registry.workers == workers, "a worker was replaced"
        assert len(workers) == WORKERS
        assert max(memory(pid, "VmHWM") for pid in workers) < MOST
        assert not list(registry.root.rglob("_uploads/*")), "uploads were left"
        registry.assert_no_trace()
