"""Every system call of a push fails once, one after another: nothing false is said or left."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import httpx
import pytest

from tests.inprocess import application, client_of, recorded_log
from tests.parts.images import OCI_CONFIG, OCI_MANIFEST, Content, digest_of, manifest


Function: TypeAlias = Callable[..., object]

CALLS: Final = (
    "fsync",
    "replace",
    "open",
    "write",
    "mkdir",
    "stat",
    "fstat",
    "unlink",
    "rmdir",
)
"""What the storage asks of the kernel, under the names by which Python offers it."""

CONFIG: Final = Content(OCI_CONFIG, b'{"os":"linux"}')
MANIFEST: Final = manifest(OCI_MANIFEST, config=CONFIG.descriptor(), layers=[])
LINK: Final = re.compile(rb"sha256:[0-9a-f]{64}")


class NthFailure:
    """Lets the `n`-th call of one function that concerns `root` fail, and no other.

    Attributes:
        happened: whether there was such a call.
    """

    def __init__(self, name: str, n: int, code: int, root: Path) -> None:
        self._real: Function = getattr(os, name)
        self._left = n
        self._code = code
        self._root = str(root)
        self.happened = False

    def __call__(self, first: object, *rest: object, **named: object) -> object:
        if not self.happened and self._concerns(first):
            self._left -= 1
            if not self._left:
                self.happened = True
                raise OSError(self._code, os.strerror(self._code))
        return self._real(first, *rest, **named)

    def _concerns(self, target: object) -> bool:
        if isinstance(target, int):
            target = Path(f"/proc/self/fd/{target}").readlink()
        return str(target).startswith(self._root)


class Told:
    """What a client was told about a push, step by step, each step repeated until it is done."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.refusals: list[httpx.Response] = []

    async def _until_done(self, *requests: httpx.Request) -> None:
        """Send the requests one after another, all of them anew if one is refused."""
        for _ in range(3):
            location = ""
            for request in requests:
                target = f"{location}?{request.url.query.decode()}" if location else request.url
                response = await self._client.request(
                    request.method, target, content=request.content, headers=request.headers
                )
                if not response.is_success:
                    self.refusals.append(response)
                    break
                location = response.headers["location"]
            else:
                return
        pytest.fail(f"refused: {[(each.status_code, each.text) for each in self.refusals]}")

    async def push(self) -> None:
        digest = CONFIG.digest
        await self._until_done(
            self._client.build_request("POST", "/v2/a/b/blobs/uploads/"),
            self._client.build_request("PUT", f"/?digest={digest}", content=CONFIG.body),
        )
        body = b"at once"
        query = f"?digest={digest_of(body)}"
        await self._until_done(
            self._client.build_request("POST", f"/v2/a/b/blobs/uploads/{query}", content=body)
        )
        headers = {"Content-Type": OCI_MANIFEST}
        await self._until_done(
            self._client.build_request(
                "PUT", "/v2/a/b/manifests/v1", content=MANIFEST.body, headers=headers
            )
        )

    async def check(self) -> None:
        got = await self._client.get("/v2/a/b/manifests/v1", headers={"Accept": OCI_MANIFEST})
        assert got.content == MANIFEST.body
        for body in (CONFIG.body, b"at once"):
            blob = await self._client.get(f"/v2/a/b/blobs/{digest_of(body)}")
            assert blob.content == body
        tags = await self._client.get("/v2/a/b/tags/list")
        assert tags.json()["tags"] == ["v1"]


async def push_with_failure(folder: Path, call: str, n: int, code: int) -> tuple[bool, Told]:
    """Push while the `n`-th `call` fails with `code`; return whether that happened."""
    root = folder / "root"
    async with client_of(application(folder)) as client:
        failure = NthFailure(call, n, code, root)
        told = Told(client)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, call, failure)
            await told.push()
        await told.check()
    # Another process sees the same.
    async with client_of(application(folder)) as client:
        await Told(client).check()
    return failure.happened, told


def assert_tree_is_whole(root: Path) -> None:
    """Assert that all that has a name for readers is whole."""
    base = root / "docker/registry/v2"
    for path in base.glob("blobs/sha256/*/*/data"):
        assert digest_of(path.read_bytes()) == f"sha256:{path.parent.name}"
    for path in (base / "repositories").rglob("link"):
        assert LINK.fullmatch(path.read_bytes()), path


@pytest.mark.parametrize(
    ("call", "code"),
    [pytest.param(call, errno.EIO, id=f"{call}-EIO") for call in CALLS]
    + [
        pytest.param(call, errno.ENOSPC, id=f"{call}-ENOSPC") for call in ("write", "mkdir", "open")
    ],
)
async def test_each_call_of_a_push_may_fail(tmp_path: Path, call: str, code: int) -> None:
    """The client hears of it, repeats, and then all is there; a failed removal hurts nobody."""
    n, refused = 0, 0
    happened = True
    while happened:
        n += 1
        folder = tmp_path / str(n)
        folder.mkdir()
        with recorded_log() as log:
            happened, told = await push_with_failure(folder, call, n, code)
        assert not [entry for entry in log if entry.get("exc_info")]
        for refusal in told.refusals:
            assert refusal.status_code in {503, 507, 404}, refusal.text
            assert refusal.json()["errors"][0]["code"] in {"UNAVAILABLE", "BLOB_UPLOAD_UNKNOWN"}
        refused += len(told.refusals)
        assert_tree_is_whole(folder / "root")
    print(f"\n{call}: {n - 1} calls failed one after another, {refused} requests were refused")
    assert n > 1
