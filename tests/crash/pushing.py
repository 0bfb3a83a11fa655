"""Clients that push in every way there is, and remember exactly what was acknowledged."""

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Self

from tests.live import LiveRegistry
from tests.parts.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, digest_of
from tests.registry_client import OCTETS, Answer, RegistryClient, with_query


CLIENTS: Final = 6
CROWD: Final = 4

SEED: Final = int(os.environ.get("DOCKYARD_TEST_SEED") or time.time_ns())
"""Chooses bodies, ways to push and the moments of the kills; printed, so it can be repeated."""

BIG: Final = 5 << 20
CHUNK: Final = 1 << 20
SHARED_TAG: Final = "shared"

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
        ways = [
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


class Crowd:
    """Clients that push to a service whose workers die, each with a new connection when it must."""

    def __init__(self, registry: LiveRegistry, repository: str) -> None:
        self.ledger = Ledger()
        self._registry = registry
        self._repository = repository
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._push, args=(n,)) for n in range(CROWD)]

    def _push(self, number: int) -> None:
        attempt = 0
        while not self._ending.is_set():
            attempt += 1
            pusher = Pusher(self._registry, self._repository, number * 1000 + attempt, SEED)
            pusher.run(self._ending)  # until its connection breaks
            with self._lock:
                self.ledger.merge(pusher.ledger)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)
