"""Loss of power: replayed on a file system that keeps no more than POSIX promises."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from typing_extensions import override

from dockyard.oci.digest import Digest
from dockyard.storage import layout
from tests.crash.strace import TRACED, Call, parse_trace, traced
from tests.crash.strict_posix import StrictDisk
from tests.live import LiveRegistry, listing
from tests.parts.daemon import wait_for
from tests.parts.images import OCI_MANIFEST, digest_of, image
from tests.registry_client import OCTETS, Answer, RegistryClient, with_query


MOVING: Final = frozenset(
    {"rename", "renameat", "renameat2", "rmdir", "unlink", "unlinkat", "fsync"}
)
"""Calls after which a blob is elsewhere, or is there for good."""

_BLOB: Final = re.compile(r"/blobs/sha256/[0-9a-f]{2}/([0-9a-f]{64})(?=/data\"|>)")
_RESPONSE: Final = re.compile(r'\d+<socket:[^>]*>, (?:\[\{iov_base=)?"HTTP/1\.1 (\d{3}) ')


@dataclass(frozen=True, slots=True)
class Claim:
    """What a response tells its client.

    Attributes:
        request: method and path, for messages.
        present: paths below ``docker/registry/v2`` that must survive.
        absent: paths that must not come back.
    """

    request: str
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


class ClaimingClient(RegistryClient):
    """Notes for each response, in order, what its client may now rely on."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.claims: list[Claim] = []

    @override
    def request(
        self,
        method: str,
        target: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        answer = super().request(method, target, body=body, headers=headers)
        path = re.sub(r"^http://[^/]*|\?.*", "", target)
        words = f"{method} {path}"
        if path.startswith("/v2/_dockyard/"):
            self.claims.append(Claim(words))  # who sends it knows what it claims
            return answer
        match answer.status, method:
            case 201, _:
                self.claims.append(Claim(words, present=tuple(acknowledged(path, answer))))
            case 202, "DELETE":
                self.claims.append(Claim(words, absent=(deleted(path),)))
            case _:
                self.claims.append(Claim(words))
        return answer


def acknowledged(path: str, answer: Answer) -> Iterator[str]:
    """Yield the paths of all that a 201 acknowledges."""
    digest = answer.header("Docker-Content-Digest")
    algorithm, _, hexadecimals = digest.partition(":")
    yield f"blobs/{algorithm}/{hexadecimals[:2]}/{hexadecimals}/data"
    match = re.fullmatch(r"/v2/(.+)/(blobs|manifests)/(.+)", path)
    assert match is not None, path
    name, kind, reference = match.groups()
    repository = f"repositories/{name.removesuffix('/blobs')}"
    if kind == "blobs" or reference.startswith("uploads/"):
        yield f"{repository}/_layers/{algorithm}/{hexadecimals}/link"
        return
    yield f"{repository}/_manifests/revisions/{algorithm}/{hexadecimals}/link"
    if ":" not in reference:
        tag = f"{repository}/_manifests/tags/{reference}"
        yield f"{tag}/current/link"
        yield f"{tag}/index/{algorithm}/{hexadecimals}/link"


def deleted(path: str) -> str:
    """Return the path whose absence a 202 to DELETE acknowledges."""
    match = re.fullmatch(r"/v2/(.+)/(blobs|manifests)/(?:(sha\d+):)?(.+)", path)
    assert match is not None, path
    name, kind, algorithm, rest = match.groups()
    if kind == "blobs":
        return f"repositories/{name}/_layers/{algorithm}/{rest}/link"
    if algorithm is None:
        return f"repositories/{name}/_manifests/tags/{rest}/current/link"
    return f"repositories/{name}/_manifests/revisions/{algorithm}/{rest}/link"


def exercise(client: RegistryClient) -> None:
    """Push in every way, move a tag, mount, and delete."""
    name = "power/one"
    first, second = image("first", layers=2), image("second", layers=1, docker=True)
    client.push_image(name, first, "v1")
    client.push_image(name, second, "v1", "v2")
    client.push_blob_in_chunks(name, b"chunk" * 5000, 9000)
    client.push_blob(name, b"a longer digest", algorithm="sha512")
    body = b"at once"
    client.request(
        "POST",
        f"/v2/{name}/blobs/uploads/?digest={digest_of(body)}",
        body=body,
        headers=OCTETS,
    ).expect(201)
    mount = f"/v2/power/two/blobs/uploads/?mount={digest_of(body)}&from={name}"
    client.request("POST", mount, body=b"").expect(201)
    client.push_blob(name, body)  # again: it replaces what is there
    headers = {"Content-Type": OCI_MANIFEST}
    tagged = with_query(f"/v2/{name}/manifests/{first.digest}", tag="v3")
    client.request("PUT", tagged, body=first.manifest.body, headers=headers).expect(201)
    client.delete_manifest(name, "v2").expect(202)
    client.request("DELETE", f"/v2/{name}/blobs/{digest_of(body)}").expect(202)
    client.delete_manifest(name, second.digest).expect(202)
    # The names of what was deleted, once more: they must be synced once more.
    client.push_image(name, second, "v2")
    client.push_blob(name, body)


def remove_and_collect(client: ClaimingClient, registry: LiveRegistry) -> None:
    """Delete and restore an image, then its repository; then have another image collected."""
    name = "power/one"
    first, second = image("first", layers=2), image("second", layers=1, docker=True)
    client.push_image(name, first, "v1")
    whole = client.claims[-1].present
    client.push_image(name, second, "v2")
    trash = "/v2/_dockyard/trash"

    def only_item(digest: str) -> str:
        """Return the address of the only item; it must have the manifest `digest` durably."""
        [item] = client.request("GET", trash).expect(200).json()["items"]
        link = layout.revision_link(name, Digest.parse(digest)).removeprefix(
            layout.repository(name)
        )
        path = f"{layout.trash_item_repository(item['id'], name)}{link}"
        client.claims[-1] = Claim("list", present=(path.removeprefix(f"{layout.BASE}/"),))
        return f"{trash}/{item['id']}"

    removal = f"/v2/_dockyard/repositories/{name}"
    client.delete_manifest(name, first.digest).expect(202)
    for _ in range(2):
        client.request("POST", only_item(first.digest), body=b"").expect(200)
        client.claims[-1] = Claim("restore", present=whole)
        client.request("DELETE", removal).expect(202)
        client.claims[-1] = Claim("remove", absent=whole[1:])
    client.request("POST", only_item(first.digest), body=b"").expect(200)
    client.delete_manifest(name, second.digest).expect(202)
    client.request("DELETE", only_item(second.digest)).expect(202)
    gone = [registry.root / place(each.digest) for each in (*second.blobs, second.manifest)]
    wait_for(lambda: not any(map(Path.exists, gone)), "the image is collected")
    client.push_image(name, second, "v2")


def place(digest: str) -> str:
    """Return the path of a blob below the root."""
    return layout.blob(Digest.parse(digest))


@dataclass(frozen=True, slots=True)
class Recording:
    """What a server did, and what its client was told.

    Attributes:
        base: the absolute path of ``docker/registry/v2``.
        existing: absolute paths of what was there when the recording began.
        calls: the system calls.
        claims: one for each response.
    """

    root: str
    existing: frozenset[str]
    calls: tuple[Call, ...]
    claims: tuple[Claim, ...]

    def lost(self, *, without: Callable[[Call], bool] = lambda _: False) -> list[str]:
        """Return what the client was told and power cuts could undo, if the server had not made
        the calls for which `without` is true."""
        base = f"{self.root}/docker/registry/v2"
        disk = StrictDisk(self.root, self.existing, f"{base}/.dockyard/")
        claims, found = iter(self.claims), []
        for call in self.calls:
            if without(call):
                continue
            if call.begins and (match := _RESPONSE.match(call.arguments)):
                claim = next(claims)
                problems = [p for p in claim.present if not disk.is_durable(f"{base}/{p}")]
                problems += [p for p in claim.absent if not disk.is_durably_gone(f"{base}/{p}")]
                found += [f"{claim.request} -> {match[1]}: {path}" for path in problems]
            disk.apply(call)
        assert next(claims, None) is None, "fewer responses than requests"
        return found + [f"half written: {path}" for path in disk.violations]

    def endangered(self, *, without: Callable[[Call], bool] = lambda _: False) -> list[str]:
        """Return the blobs that a power cut would have destroyed, while they were moved about."""
        disk = StrictDisk(self.root, self.existing, f"{self.root}/{layout.PRIVATE}/")
        known, safe, found = set[Digest](), set[Digest](), list[str]()
        for call in self.calls:
            if without(call):
                continue
            disk.apply(call)
            if call.begins or call.name not in MOVING:
                continue
            known |= {Digest.parse(f"sha256:{each}") for each in _BLOB.findall(call.arguments)}
            for digest in known:
                places = [layout.blob(digest), layout.trash_blob(digest)]
                paths = [path for each in places if disk.exists(path := f"{self.root}/{each}")]
                if any(map(disk.survives, paths)):
                    safe.add(digest)
                elif digest in safe:
                    safe.discard(digest)
                    found += [f"{path} after {call.name} {call.arguments}" for path in paths]
        return found


def record(
    folder: Path,
    work: Callable[[ClaimingClient, LiveRegistry], None],
    settings: Mapping[str, Any] | None = None,
) -> Recording:
    """Record what a server does while a client does its `work`."""
    trace = folder / "trace"
    settings = {"http": {"workers": 1}, **(settings or {})}
    with LiveRegistry(folder, settings=settings) as registry:
        existing = frozenset(listing(registry.root))
        options = ("-e", f"trace={TRACED}")
        with (
            traced(registry.workers, trace, *options),
            ClaimingClient(registry.address) as client,
        ):
            work(client, registry)
        root = str(registry.root)
    registry.assert_no_trace()
    calls = tuple(parse_trace(trace.read_text(errors="replace")))
    return Recording(root, existing, calls, tuple(client.claims))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("power"), lambda client, _: exercise(client))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A collection now and then, which destroys nothing for an hour."""
    gc = {"enabled": True, "interval": "300ms", "grace": "1s", "delay": "1h"}
    maintenance = {"gc": gc, "trash": {"retention": "1h"}}
    settings = {"storage": {"maintenance": maintenance}}
    return record(tmp_path_factory.mktemp("collection"), remove_and_collect, settings)


def test_what_is_acknowledged_survives_loss_of_power(recording: Recording) -> None:
    syncs = sum(call.name == "fsync" and call.succeeded for call in recording.calls)
    claims = sum(bool(claim.present or claim.absent) for claim in recording.claims)
    print(f"\n{claims} acknowledgements checked, {syncs} syncs")
    assert claims > 20
    assert recording.lost() == []


def test_no_collection_and_no_restore_loses_what_power_is_lost_in(collection: Recording) -> None:
    """At any of its calls each blob is in its place or in the trash."""
    moved = [call for call in collection.calls if call.name in MOVING and "trash" in call.arguments]
    print(f"\n{len(moved)} moves to the trash and back, {len(collection.calls)} calls")
    assert len(moved) > 10
    assert collection.lost() == []
    assert collection.endangered() == []


@pytest.mark.parametrize(
    "path", ["/trash/blobs/sha256", "/trash/removed", "/revisions/sha256", "/one"]
)
def test_each_sync_of_a_removal_is_needed(collection: Recording, path: str) -> None:
    without = is_sync_of(path)
    assert any(map(without, collection.calls))
    assert collection.lost(without=without) or collection.endangered(without=without)


def is_sync_of(path: str) -> Callable[[Call], bool]:
    """Return what tells whether a call syncs something whose path matches `path`."""
    pattern = re.compile(rf"\d+<[^>]*{path}>")
    return lambda call: call.name == "fsync" and pattern.match(call.arguments) is not None


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/data", id="bytes of blobs"),
        pytest.param("/tmp/[0-9a-f]{32}", id="bytes of links and manifests"),
        pytest.param("/blobs/sha256/[0-9a-f]{2}/[0-9a-f]{64}", id="names of blobs"),
        pytest.param("/blobs/sha256/[0-9a-f]{2}", id="directories of blobs"),
        pytest.param("/blobs/sha512", id="first directories of an algorithm"),
        pytest.param("/_layers/sha256/[0-9a-f]{64}", id="names of layer links"),
        pytest.param("/_layers/sha256", id="directories of layer links"),
        pytest.param("/repositories", id="directories of repositories"),
        pytest.param("/power", id="directories of nested repositories"),
        pytest.param("/revisions/sha256", id="directories of revisions"),
        pytest.param("/tags", id="directories of tags"),
        pytest.param("/v1/current", id="names of tag links"),
        pytest.param("/docker/registry", id="the layout's own directories"),
        pytest.param("/root", id="the first directory"),
    ],
)
def test_each_of_its_syncs_is_needed(recording: Recording, path: str) -> None:
    """The check would notice if it were missing."""
    assert any(map(is_sync_of(path), recording.calls))
    assert recording.lost(without=is_sync_of(path))
