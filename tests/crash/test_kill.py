"""``kill -9`` while clients push: what was acknowledged is there, nothing half-written is seen."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from structlog.testing import capture_logs

from dockyard.clock import utc_now
from dockyard.core.purge import Purge
from dockyard.storage.filesystem import FilesystemStorage
from tests.live import LiveRegistry
from tests.parts.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, digest_of
from tests.registry_client import OCTETS, Answer, RegistryClient, with_query


ROUNDS: Final = 50
CLIENTS: Final = 6
KILL_WITHIN: Final = (0.02, 0.6)
"""Seconds after the first push of a round between which the kill comes: a push takes some 10 ms."""

SEED: Final = int(os.environ.get("DOCKYARD_TEST_SEED") or time.time_ns())
"""Chooses bodies, sizes, ways to push and the moments of the kills; printed, so it can be repeated."""

BIG: Final = 5 << 20
CHUNK: Final = 1 << 20
SHARED_TAG: Final = "shared"
LINK: Final = re.compile(rb"sha256:[0-9a-f]{64}")

LOST: Final = (OSError, http.client.HTTPException)
"""What a client sees of a server that was killed."""


@dataclass
class PendingUpload:
    """An upload that was under way: what the client knows of it.

    Attributes:
        acknowledged: bytes of `body` for which a 202 came.
    """

    repository: str
    location: str
    body: bytes
    acknowledged: int = 0


@dataclass
class Ledger:
    """What the clients know: all that was acknowledged, and what may or may not have happened.

    Attributes:
        tags: for each repository and tag the digests it may point to: the last acknowledged one and
            those that were sent after it. Each tag but `SHARED_TAG` is moved by one client only.
    """

    blobs: dict[tuple[str, str], int] = field(default_factory=dict)
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    tags: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    acknowledged_tags: set[tuple[str, str]] = field(default_factory=set)
    pending: list[PendingUpload] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def merge(self, other: "Ledger") -> None:
        self.blobs |= other.blobs
        self.manifests |= other.manifests
        for key, digests in other.tags.items():
            # Several clients move the shared tag: any of what they sent may be what it points to.
            self.tags[key] = self.tags.get(key, set()) | digests
        self.acknowledged_tags |= other.acknowledged_tags
        self.pending += other.pending
        self.counts += other.counts
        self.problems += other.problems


class Pusher:
    """One client that pushes in every way there is, until its server is gone."""

    def __init__(self, registry: LiveRegistry, repository: str, number: int, seed: int) -> None:
        self.ledger = Ledger()
        self._registry = registry
        self._repository = repository
        self._number = number
        self._chance = random.Random(f"{seed} {repository} {number}")
        self._client = RegistryClient(registry.address)
        self._config = b""

    def run(self, ending: threading.Event | None = None) -> None:
        """Push until the server is gone or `ending` is set."""
        ways: list[Callable[[], None]] = [
            self._push_whole,
            self._push_chunks,
            self._push_at_once,
            self._push_manifest_by_digest,
            self._move_tag,
            self._move_tag,
            self._mount,
        ]
        try:
            while ending is None or not ending.is_set():
                self._chance.choice(ways)()
        except LOST:
            pass  # the kill
        except AssertionError as error:
            self.ledger.problems.append(str(error))
        finally:
            self._client.close()

    def _body(self) -> bytes:
        kind = self._chance.random()
        size = BIG if kind < 0.04 else int(10 ** self._chance.uniform(1, 5))
        return self._chance.randbytes(size)

    def _acknowledge_blob(self, way: str, body: bytes, answer: Answer) -> None:
        digest = digest_of(body)
        answer.expect(201)
        assert answer.header("Docker-Content-Digest") == digest
        self.ledger.blobs[self._repository, digest] = len(body)
        self.ledger.counts[way] += 1

    def _push_whole(self) -> None:
        body = self._body()
        pending = PendingUpload(self._repository, self._client.start_upload(self._repository), body)
        self.ledger.pending.append(pending)
        location = with_query(pending.location, digest=digest_of(body))
        answer = self._client.request("PUT", location, body=body, headers=OCTETS)
        self._acknowledge_blob("whole", body, answer)
        self.ledger.pending.remove(pending)

    def _push_chunks(self) -> None:
        body = self._body()
        pending = PendingUpload(self._repository, self._client.start_upload(self._repository), body)
        self.ledger.pending.append(pending)
        step = CHUNK if len(body) > CHUNK else max(len(body) // 3, 1)
        for start in range(0, len(body), step):
            chunk = body[start : start + step]
            headers = {**OCTETS, "Content-Range": f"{start}-{start + len(chunk) - 1}"}
            answer = self._client.request("PATCH", pending.location, body=chunk, headers=headers)
            pending.location = answer.expect(202).header("Location")
            pending.acknowledged = start + len(chunk)
        location = with_query(pending.location, digest=digest_of(body))
        self._acknowledge_blob("chunks", body, self._client.request("PUT", location, body=b""))
        self.ledger.pending.remove(pending)

    def _push_at_once(self) -> None:
        body = self._body()
        target = f"/v2/{self._repository}/blobs/uploads/?digest={digest_of(body)}"
        answer = self._client.request("POST", target, body=body, headers=OCTETS)
        self._acknowledge_blob("single POST", body, answer)

    def _mount(self) -> None:
        source = next((key for key in self.ledger.blobs if key[0] == self._repository), None)
        if source is None:
            return
        target = f"{self._repository}/mounted"
        query = f"?mount={source[1]}&from={source[0]}"
        answer = self._client.request("POST", f"/v2/{target}/blobs/uploads/{query}", body=b"")
        answer.expect(201)
        self.ledger.blobs[target, source[1]] = self.ledger.blobs[source]
        self.ledger.counts["mount"] += 1

    def _manifest(self) -> bytes:
        if not self._config:
            config = self._chance.randbytes(64)
            self._client.push_blob(self._repository, config)
            self.ledger.blobs[self._repository, digest_of(config)] = len(config)
            self._config = config
        described = {"mediaType": OCI_CONFIG, "size": 64, "digest": digest_of(self._config)}
        own = [key[1] for key in self.ledger.blobs if key[0] == self._repository]
        layers = [
            {
                "mediaType": OCI_LAYER,
                "size": self.ledger.blobs[self._repository, digest],
                "digest": digest,
            }
            for digest in own[-3:]
        ]
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": described,
            "layers": layers,
            "annotations": {"one": self._chance.randbytes(16).hex()},
        }
        return json.dumps(document).encode()

    def _push_manifest_by_digest(self) -> None:
        body = self._manifest()
        digest = digest_of(body)
        answer = self._client.push_manifest(self._repository, digest, body, OCI_MANIFEST)
        answer.expect(201)
        self.ledger.manifests[self._repository, digest] = body
        self.ledger.counts["manifest by digest"] += 1

    def _move_tag(self) -> None:
        tag = self._chance.choice([SHARED_TAG, f"own-{self._number}-{self._chance.randrange(3)}"])
        body = self._manifest()
        digest, key = digest_of(body), (self._repository, tag)
        self.ledger.tags.setdefault(key, set()).add(digest)
        self._client.push_manifest(self._repository, tag, body, OCI_MANIFEST).expect(201)
        self.ledger.manifests[self._repository, digest] = body
        if tag != SHARED_TAG:
            self.ledger.tags[key] = {digest}
        self.ledger.acknowledged_tags.add(key)
        self.ledger.counts["tag moved"] += 1


class Auditor:
    """Compares what a restarted server has with what its clients know."""

    def __init__(self, registry: LiveRegistry, counts: Counter[str]) -> None:
        self._registry = registry
        self._counts = counts
        self._hashed: set[Path] = set()

    def audit(self, ledger: Ledger, repository: str) -> None:
        """Check all that `ledger` knows, and all that the tree has of `repository`."""
        with RegistryClient(self._registry.address) as client:
            self._audit_blobs(client, ledger)
            self._audit_manifests(client, ledger)
            self._audit_tags(client, ledger)
            self._audit_lists(client, ledger)
            for pending in ledger.pending:
                self._resume(client, pending)
        self._audit_tree(repository)

    def _audit_blobs(self, client: RegistryClient, ledger: Ledger) -> None:
        for (repository, digest), size in ledger.blobs.items():
            body = client.blob(repository, digest).expect(200).body
            assert (len(body), digest_of(body)) == (size, digest)
            self._counts["blobs verified"] += 1

    def _audit_manifests(self, client: RegistryClient, ledger: Ledger) -> None:
        for (repository, digest), body in ledger.manifests.items():
            assert client.manifest(repository, digest).expect(200).body == body
            self._counts["manifests verified"] += 1

    def _audit_tags(self, client: RegistryClient, ledger: Ledger) -> None:
        for (repository, tag), digests in ledger.tags.items():
            answer = client.manifest(repository, tag)
            if answer.status == http.HTTPStatus.NOT_FOUND:
                assert (repository, tag) not in ledger.acknowledged_tags, f"{tag} is lost"
                assert tag not in client.tags(repository)
                continue
            pointed = answer.expect(200).header("Docker-Content-Digest")
            assert pointed in digests, f"{tag} points to {pointed}, not to one of {digests}"
            assert digest_of(answer.body) == pointed
            self._counts["tags verified"] += 1

    def _audit_lists(self, client: RegistryClient, ledger: Ledger) -> None:
        """Check that lists are whole, and that all they name is served."""
        catalog = client.catalog()
        for repository in {repository for repository, _ in ledger.manifests}:
            assert repository in catalog
        for repository in {repository for repository, _ in ledger.tags}:
            listed = client.tags(repository)
            wanted = {tag for name, tag in ledger.acknowledged_tags if name == repository}
            assert wanted <= set(listed)
            for tag in listed:
                manifest = client.manifest(repository, tag).expect(200).json()
                for each in (manifest["config"], *manifest["layers"]):
                    head = client.blob(repository, each["digest"], method="HEAD").expect(200)
                    assert head.header("Content-Length") == str(each["size"])

    def _resume(self, client: RegistryClient, pending: PendingUpload) -> None:
        """Finish an upload where it stopped, if the closing request did not do so already."""
        digest = digest_of(pending.body)
        status = client.request("GET", pending.location)
        if status.status == http.HTTPStatus.NOT_FOUND:
            # The closing request was being worked on when the kill came.
            assert status.codes() == ["BLOB_UPLOAD_UNKNOWN"]
            client.push_blob(pending.repository, pending.body)
            self._counts["uploads restarted"] += 1
        else:
            last = status.expect(204).header("Range")
            received = 0 if last == "0-0" else int(last.removeprefix("0-")) + 1
            assert pending.acknowledged <= received <= len(pending.body)
            rest = pending.body[received:]
            location = status.header("Location")
            headers = {**OCTETS, "Content-Range": f"{received}-{len(pending.body) - 1}"}
            if rest:
                answer = client.request("PATCH", location, body=rest, headers=headers)
                location = answer.expect(202).header("Location")
            client.request("PUT", with_query(location, digest=digest), body=b"").expect(201)
            self._counts["uploads resumed"] += 1
        body = client.blob(pending.repository, digest).expect(200).body
        assert body == pending.body

    def _audit_tree(self, repository: str) -> None:
        """Check on the disk that every blob has its digest and every link is whole."""
        base = self._registry.root / "docker/registry/v2"
        for path in (base / "blobs").glob("sha256/*/*/data"):
            if path not in self._hashed:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name
                self._hashed.add(path)
                self._counts["files hashed"] += 1
        for path in (base / "repositories" / repository).rglob("link"):
            assert LINK.fullmatch(path.read_bytes()), f"half a link: {path}"
            self._counts["links read"] += 1

    def hash_everything_again(self) -> None:
        """Check the digest of every blob on the disk, also of those checked before."""
        self._hashed.clear()
        self._audit_tree("")


def push_until_killed(registry: LiveRegistry, repository: str, seed: int, pause: float) -> Ledger:
    """Let clients push to `repository`, and kill the service after `pause` seconds."""
    pushers = [Pusher(registry, repository, number, seed) for number in range(CLIENTS)]
    threads = [threading.Thread(target=pusher.run) for pusher in pushers]
    for thread in threads:
        thread.start()
    time.sleep(pause)
    registry.kill()
    ledger = Ledger()
    for thread, pusher in zip(threads, pushers, strict=True):
        thread.join(30)
        assert not thread.is_alive()
        ledger.merge(pusher.ledger)
    return ledger


def test_nothing_acknowledged_is_lost_when_the_service_is_killed(tmp_path: Path) -> None:
    print(f"\nDOCKYARD_TEST_SEED={SEED}")
    began = time.monotonic()
    chance = random.Random(SEED)
    everything, counts = Ledger(), Counter[str]()
    # Listed and counted, but not written: the log of all these requests would be large.
    settings = {"log": {"level": "warn", "accesslog": {"disabled": True}}, "http": {"workers": 2}}
    registry = LiveRegistry(tmp_path, settings=settings).start()
    auditor = Auditor(registry, counts)
    try:
        for number in range(ROUNDS):
            repository = f"round-{number}/pushed"
            pause = chance.uniform(*KILL_WITHIN)
            ledger = push_until_killed(registry, repository, SEED, pause)
            assert not ledger.problems, ledger.problems
            registry.start()
            auditor.audit(ledger, repository)
            everything.merge(ledger)
        everything.pending.clear()
        auditor.audit(everything, "")
        auditor.hash_everything_again()
        assert_leftovers_go(registry, counts)
    finally:
        registry.stop()
    registry.assert_no_trace()
    print(f"{ROUNDS} kills in {time.monotonic() - began:.0f} s; pushed: {dict(everything.counts)}")
    print(f"checked: {dict(counts)}")
    assert everything.counts.total() > ROUNDS
    assert counts["uploads resumed"] > 0


def assert_leftovers_go(registry: LiveRegistry, counts: Counter[str]) -> None:
    """Assert that the purge removes what the kills left, and that nothing of an upload remains."""
    purge = Purge(FilesystemStorage(registry.root), utc_now)
    for _ in range(2):  # one without a time of start goes when it is met for the second time
        with capture_logs():  # a line for each upload
            found = asyncio.run(purge.run(timedelta(), dry_run=False))
        assert not found.failures
        counts["leftover uploads purged"] += len(found.uploads)
    assert not list((registry.root / "docker/registry/v2/repositories").rglob("_uploads/*"))


def test_the_service_outlives_its_workers(tmp_path: Path) -> None:
    """One of two workers is killed under pushes: the other serves, it comes back, nothing is lost."""
    print(f"\nDOCKYARD_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    settings = {"log": {"level": "warn", "accesslog": {"disabled": True}}, "http": {"workers": 2}}
    registry = LiveRegistry(tmp_path, settings=settings).start()
    ending = threading.Event()
    ledger = Ledger()
    lock = threading.Lock()

    def push(number: int) -> None:
        attempt = 0
        while not ending.is_set():
            attempt += 1
            pusher = Pusher(registry, "killed/worker", number * 1000 + attempt, SEED)
            pusher.run(ending)  # until its connection breaks
            with lock:
                ledger.merge(pusher.ledger)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(4)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(5):
            time.sleep(chance.uniform(0.2, 0.6))
            registry.wait_for_workers(2)
            victim = chance.choice(registry.workers)
            os.kill(victim, signal.SIGKILL)
            for _ in range(20):
                assert is_served(registry), "the other worker does not serve"
        registry.wait_for_workers(2)
        ending.set()
        for thread in threads:
            thread.join(30)
        counts = Counter[str]()
        assert not ledger.problems, ledger.problems
        Auditor(registry, counts).audit(ledger, "killed/worker")
        print(f"pushed: {dict(ledger.counts)}; checked: {dict(counts)}")
        assert registry.messages.count("a worker ended and is replaced") == 5
    finally:
        ending.set()
        registry.stop()
    registry.assert_no_trace()


def is_served(registry: LiveRegistry) -> bool:
    """Say whether a new connection is served; one that fell to the killed worker is made again."""
    for _ in range(2):
        with contextlib.suppress(*LOST), RegistryClient(registry.address) as client:
            return client.request("GET", "/v2/").status == http.HTTPStatus.OK
    return False
