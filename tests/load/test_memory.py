"""Memory stays flat: a large layer pushed by 8 clients and pulled by 32 at once."""

import hashlib
import http.client
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.parts.programs import require
from tests.parts.registries import RegistryUnderTest


MB = 1 << 20
WORKER_LIMIT = 200 * MB
"""What a worker may take at most, as issue and README say."""

PUSHERS, PULLERS = 8, 32
SECONDS = 900
"""After this the transfers are taken for stuck; on two cores they need a tenth of it."""


def make_layer(path: Path, size: int) -> str:
    """Write a layer of `size` bytes; return its digest."""
    block, hasher = os.urandom(MB), hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MB):
            file.write(block)
            hasher.update(block)
    return f"sha256:{hasher.hexdigest()}"


def ask(registry: RegistryUnderTest, method: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=SECONDS)
    connection.request(method, path, headers={"Content-Length": "0"})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def wait(clients: list["subprocess.Popen[bytes]"], status: bytes) -> None:
    """Return once all clients ended well, each with the HTTP `status`."""
    try:
        for client in clients:
            output, _ = client.communicate(timeout=SECONDS)
            assert (client.returncode, output) == (0, status)
    finally:
        for client in clients:
            client.kill()


def push(registry: RegistryUnderTest, layer: Path, digest: str) -> None:
    """Push a layer from `PUSHERS` clients at once, the way docker does."""
    uploads = [
        urlsplit(ask(registry, "POST", "/v2/load/layer/blobs/uploads/").headers["Location"]).path
        for _ in range(PUSHERS)
    ]
    curl = ["curl", "-s", "-w", "%{http_code}", "-X", "PATCH", "-T", str(layer)]
    clients = [
        subprocess.Popen([*curl, f"{registry.url}{path}"], stdout=subprocess.PIPE)
        for path in uploads
    ]
    wait(clients, b"202")
    for path in uploads:
        bare = path.rpartition(".")[0]  # the offset has changed
        assert ask(registry, "PUT", f"{bare}?digest={digest}").status == 201


def pull(registry: RegistryUnderTest, digest: str) -> None:
    """Pull a layer by `PULLERS` clients at once."""
    curl = ["curl", "-s", "-f", "-w", "%{size_download}", "-o", os.devnull]
    url = f"{registry.url}/v2/load/layer/blobs/{digest}"
    clients = [subprocess.Popen([*curl, url], stdout=subprocess.PIPE) for _ in range(PULLERS)]
    size = ask(registry, "HEAD", urlsplit(url).path).headers["Content-Length"]
    wait(clients, size.encode())


def worker_peaks(registry: RegistryUnderTest) -> list[int]:
    """Return the most memory, in bytes, that each worker ever had."""
    children = Path(f"/proc/{registry.pid}/task/{registry.pid}/children").read_text().split()
    texts = [Path(f"/proc/{child}/status").read_text() for child in children]
    return [int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) * 1024 for text in texts]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path)  # gigabytes, which pytest would keep


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(1024 * MB, id="1GB"),
        pytest.param(10 * 1024 * MB, id="10GB", marks=pytest.mark.slow),
    ],
)
def test_workers_stay_small(folder: Path, size: int) -> None:
    require("curl")
    needed = size * (PUSHERS + 2)
    free = shutil.disk_usage(folder).free
    if free < needed:
        message = f"needs {needed >> 30} GB of free disk, there are {free >> 30}"
        if os.environ.get("CI") and size == 1024 * MB:
            pytest.fail(message)
        pytest.skip(message)
    digest = make_layer(folder / "layer", size)
    settings = {"http": {"workers": 2}, "log": {"accesslog": {"disabled": True}}}
    with RegistryUnderTest(folder / "registry", settings=settings) as registry:
        push(registry, folder / "layer", digest)
        after_push = worker_peaks(registry)
        pull(registry, digest)
        peaks = worker_peaks(registry)
    print(f"peaks of the workers, MB: {[peak // MB for peak in after_push]} after {PUSHERS} pushes,"
          f" {[peak // MB for peak in peaks]} after {PULLERS} pulls")  # fmt: skip
    assert len(peaks) == 2
    assert max(peaks) < WORKER_LIMIT
