"""Everything at once: pushers, movers, deleters, restorers, collectors without pause, ``kill -9``.

Each thread owns repositories of its own, so that it knows exactly what must be there: nobody else
pushes to them or deletes from them. Layers are shared by all, by upload and by mount. Every image
that was acknowledged and not deleted must be pulled, whole, while it goes on and at the end; so
must what was restored from the trash, and what a tag was rolled back to.

Two collectors take turns: the servers' own, by a schedule without a pause, and the command. Both
take what is neither referenced nor leased, and both drop what no tag needs. The grace period is a
few seconds: a push takes tenths of one, and what takes longer may be refused, which is counted.
What was acknowledged must never be lost, however long that took. The state database is removed now
and then.
"""

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from structlog.testing import capture_logs

from dockyard.config import load
from dockyard.core.collector import Collector, Plan
from dockyard.core.leases import Leases
from dockyard.core.trash import Trash
from dockyard.server.use_cases import Foundation, build_manifests
from dockyard.storage.filesystem import FilesystemStorage
from tests.live import LiveRegistry
from tests.parts.collection import Silent
from tests.parts.images import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, digest_of
from tests.parts.registries import server_program
from tests.registry_client import OCTETS, Answer, RegistryClient, with_query


SECONDS: Final = float(
    os.environ.get("DOCKYARD_TORTURE_SECONDS") or (300 if os.environ.get("CI") == "true" else 40)
)
"""How long: seconds for `make test`, 300 for CI, 3600 on demand."""

SEED: Final = int(os.environ.get("DOCKYARD_TEST_SEED") or time.time_ns())
"""Chooses what each thread does, and the moments of the kills; printed, so it can be repeated."""

MEMORY: Final = Path("/dev/shm")
"""Where files are in memory."""

PUSHERS: Final = 8
REPOSITORIES: Final = 3
"""Repositories of each pusher."""

LAYERS: Final = 24
"""Layers that all images are made of: few, so that most are pushed, dropped and pushed again."""

IMAGES: Final = 8
"""Images a repository holds at most; one more, and old ones are deleted."""

BREATH: Final = 0.1
"""Seconds a pusher waits at most between two things: so that the collector gets some of the
machine, and blobs are collected as often as they are pushed."""

UNTAGGED_EVERY: Final = 3
"""Every so many collections by the command, one deletes untagged manifests too."""

EMPTIES: Final = 0.2
"""How often the command empties the trash: what was removed just then can't be restored."""

GRACE: Final = 5.0
"""Seconds for which a client may rely on a blob it was told of: longer than a push takes."""

MAINTENANCE: Final = {
    "gc": {
        "enabled": True,
        "interval": "100ms",
        "grace": f"{GRACE:.0f}s",
        "delay": "2s",
        "deleteuntagged": True,
    },
    "trash": {"retention": "15s"},
}
"""Everything as short as it may be, so that all of it happens in every run."""

LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)

LOST: Final = (OSError, http.client.HTTPException)
"""What a client sees of a server that was killed."""


@dataclass
class Manifest:
    """One manifest that was acknowledged.

    Attributes:
        body: its bytes.
        media_type: its type.
        blobs: digests of its configuration and layers.
        children: digests of the manifests it lists.
    """

    body: bytes
    media_type: str
    blobs: tuple[str, ...] = ()
    children: tuple[str, ...] = ()


@dataclass
class Repository:
    """What its owner knows of a repository.

    Attributes:
        name: its name.
        manifests: those that may be there, acknowledged or not.
        tags: for each tag what it may point to: one digest, or several after a lost answer. None
            stands for no tag. What no tag needs may go by ``-m``, and is not counted on.
        pasts: for each tag all that it may ever have pointed to.
        removed: when all of it was removed last.
    """

    name: str
    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, set[str | None]] = field(default_factory=dict)
    pasts: dict[str, set[str]] = field(default_factory=dict)
    removed: datetime = LONG_AGO

    def wanted(self) -> dict[str, str]:
        """Return the tags of which it is known what they point to."""
        found = {}
        for tag, digests in self.tags.items():
            only = next(iter(digests)) if len(digests) == 1 else None
            if only is not None:
                found[tag] = only
        return found

    def live(self) -> set[str]:
        """Return all digests that tags need."""
        found: set[str] = set()
        waiting = [each for digests in self.tags.values() for each in digests if each is not None]
        while waiting:
            digest = waiting.pop()
            if digest in found:
                continue
            found.add(digest)
            known = self.manifests[digest]
            found.update(known.blobs)
            waiting += known.children
        return found


class LostError(Exception):
    """Something that was acknowledged is not there."""


class Pusher:
    """A client with repositories of its own."""

    def __init__(self, registry: LiveRegistry, number: int, ending: threading.Event) -> None:
        self.counts: Final[Counter[str]] = Counter()
        self.problems: Final[list[str]] = []
        self.repositories: Final = [
            Repository(f"owner-{number}/{each}") for each in range(REPOSITORIES)
        ]
        self._registry = registry
        self._ending = ending
        self._chance = random.Random(f"{SEED} {number}")
        self._client = RegistryClient(registry.address)
        self._began = 0.0

    def run(self) -> None:
        """Work until the end, again and again with another server."""
        ways = [self._push_image] * 6 + [self._push_index] * 2 + [self._pull] * 4
        ways += [self._move_tag, self._delete_tag, self._delete_manifest, self._remove_repository]
        ways += [self._restore] * 3 + [self._roll_back] * 2
        while not self._ending.is_set():
            time.sleep(self._chance.uniform(0, BREATH))
            try:
                self._chance.choice(ways)()
            except LOST:
                self.counts["interrupted by a kill"] += 1
                self._client.close()
                time.sleep(0.05)
            except (AssertionError, LostError) as error:
                self.problems.append(f"{error}")
                self.counts["problems"] += 1
        self._client.close()

    def audit(self) -> None:
        """Pull everything."""
        for repository in self.repositories:
            for tag in list(repository.tags):
                self._settle(repository, tag)
            for tag, digest in repository.wanted().items():
                self._pull_one(repository, tag, digest)
                self.counts["images verified at the end"] += 1
        self._client.close()

    # Pushing

    def _push_image(self) -> None:
        repository = self._chance.choice(self.repositories)
        self._began = time.monotonic()
        digest = self._push_manifests(repository, 1)[0]
        self._tag(repository, digest, f"tag-{self._chance.randrange(IMAGES)}")

    def _push_index(self) -> None:
        """Push images by digest, then an index of them by tag."""
        repository = self._chance.choice(self.repositories)
        self._began = time.monotonic()
        children = self._push_manifests(repository, 2)
        listed = [
            {
                "mediaType": OCI_MANIFEST,
                "size": len(repository.manifests[each].body),
                "digest": each,
            }
            for each in children
        ]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        body = json.dumps(document).encode()
        for each in children:
            if self._is_too_late(self._put(repository, each, each)):
                return
        digest = digest_of(body)
        repository.manifests[digest] = Manifest(body, OCI_INDEX, children=tuple(children))
        self._tag(repository, digest, f"index-{self._chance.randrange(2)}")
        self.counts["indexes pushed"] += 1

    def _push_manifests(self, repository: Repository, count: int) -> list[str]:
        """Make manifests and push their blobs; return the manifests' digests."""
        made = []
        for _ in range(count):
            config = json.dumps({"one": self._chance.randbytes(8).hex()}).encode()
            layers = [
                layer_of(each)
                for each in self._chance.sample(range(LAYERS), self._chance.randint(1, 4))
            ]
            for content in (config, *layers):
                self._give(repository, content)
            described = [
                {"mediaType": kind, "size": len(body), "digest": digest_of(body)}
                for kind, body in [(OCI_CONFIG, config), *((OCI_LAYER, each) for each in layers)]
            ]
            document = {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": described[0],
                "layers": described[1:],
            }
            body = json.dumps(document).encode()
            blobs = tuple(str(each["digest"]) for each in described)
            repository.manifests[digest_of(body)] = Manifest(body, OCI_MANIFEST, blobs)
            made.append(digest_of(body))
        return made

    def _give(self, repository: Repository, content: bytes) -> None:
        """Give a repository a blob, as clients do: HEAD, then mount, then upload."""
        name, digest = repository.name, digest_of(content)
        if self._client.blob(name, digest, method="HEAD").expect(200, 404).status == 200:
            self.counts["blobs found by HEAD"] += 1
            return
        other = self._chance.choice(self.repositories).name
        target = f"/v2/{name}/blobs/uploads/?mount={digest}&from={other}"
        answer = self._client.request("POST", target, body=b"").expect(201, 202)
        if answer.status == 201:
            self.counts["blobs mounted"] += 1
            return
        location = with_query(answer.header("Location"), digest=digest)
        self._client.request("PUT", location, body=content, headers=OCTETS).expect(201)
        self.counts["blobs uploaded"] += 1

    def _put(self, repository: Repository, reference: str, digest: str) -> Answer:
        known = repository.manifests[digest]
        return self._client.push_manifest(repository.name, reference, known.body, known.media_type)

    def _tag(self, repository: Repository, digest: str, tag: str) -> None:
        possible = repository.tags.setdefault(tag, {None})
        before = set(possible)
        possible.add(digest)  # from now on, until it is answered
        repository.pasts.setdefault(tag, set()).add(digest)
        if self._is_too_late(self._put(repository, tag, digest)):
            repository.tags[tag] = before
            return
        repository.tags[tag] = {digest}
        self.counts["images acknowledged"] += 1

    def _is_too_late(self, answer: Answer) -> bool:
        """Return whether a manifest was refused as its push took longer than the grace period."""
        if answer.status in {400, 404} and time.monotonic() - self._began > GRACE - 0.5:
            self.counts["pushes refused after the grace period"] += 1
            return True
        answer.expect(201)
        return False

    # Moving and deleting

    def _move_tag(self) -> None:
        repository = self._chance.choice(self.repositories)
        wanted = repository.wanted()
        if wanted:
            self._began = time.monotonic()
            digest = self._chance.choice(sorted(wanted.values()))
            self._tag(repository, digest, f"tag-{self._chance.randrange(IMAGES)}")
            self.counts["tags moved"] += 1

    def _delete_tag(self) -> None:
        repository = self._chance.choice(self.repositories)
        wanted = repository.wanted()
        if wanted:
            tag = self._chance.choice(sorted(wanted))
            repository.tags[tag].add(None)
            self._client.delete_manifest(repository.name, tag).expect(202)
            repository.tags[tag] = {None}
            self.counts["tags deleted"] += 1

    def _delete_manifest(self) -> None:
        """Delete a manifest by digest, which deletes all tags that point to it."""
        repository = self._chance.choice(self.repositories)
        self._settle_all(repository)
        wanted = repository.wanted()
        listed = {each for known in repository.manifests.values() for each in known.children}
        deletable = sorted(set(wanted.values()) - listed)
        if deletable:
            digest = self._chance.choice(deletable)
            affected = [tag for tag, each in wanted.items() if each == digest]
            for tag in affected:
                repository.tags[tag].add(None)
            self._client.delete_manifest(repository.name, digest).expect(202)
            for tag in affected:
                repository.tags[tag] = {None}
            self.counts["manifests deleted"] += 1

    def _remove_repository(self) -> None:
        """Remove a repository's directory, as people do, or by the API, to the trash."""
        if self._chance.random() < 0.5:
            return
        repository = self._chance.choice(self.repositories)
        repository.tags = {tag: {None, *each} for tag, each in repository.tags.items()}
        try:
            if self._chance.random() < 0.5:
                self._remove_by_hand(repository)
                self.counts["repositories removed by hand"] += 1
            else:
                target = f"/v2/_dockyard/repositories/{repository.name}"
                self._client.request("DELETE", target).expect(202, 404)
                self.counts["repositories removed"] += 1
        finally:
            repository.removed = datetime.now(UTC)
        repository.tags.clear()

    def _remove_by_hand(self, repository: Repository) -> None:
        path = self._registry.root / "docker/registry/v2/repositories" / repository.name
        while path.exists():  # a killed server's last call, or the collector's, may add a name
            shutil.rmtree(path, ignore_errors=True)

    # Undoing

    def _restore(self) -> None:
        """Bring back something from the trash: whole, or not at all."""
        repository = self._chance.choice(self.repositories)
        self._settle_all(repository)
        listing = f"/v2/_dockyard/trash?repository={repository.name}"
        items = self._client.request("GET", listing).expect(200).json()["items"]
        items = [item for item in items if None not in item["tags"].values()]
        if not items:
            return
        item = self._chance.choice(items)
        before = {tag: set(repository.tags.get(tag, {None})) for tag in item["tags"]}
        for tag, digest in item["tags"].items():
            repository.tags.setdefault(tag, {None}).add(digest)
            repository.pasts.setdefault(tag, set()).add(digest)
        answer = self._client.request("POST", f"/v2/_dockyard/trash/{item['id']}", body=b"")
        repository.tags |= before  # nothing came back, unless it says so
        if answer.expect(200, 404).status == 404:
            self.counts["items gone when they were to be restored"] += 1
            return
        restored = answer.json()
        # All of them before the first pull, which a kill may interrupt.
        repository.tags |= {tag: {item["tags"][tag]} for tag in restored["tags"]}
        for tag in restored["tags"]:
            self._pull_one(repository, tag, item["tags"][tag])
            self.counts["tags restored, and pulled"] += 1
        self.counts["items restored"] += not restored["incomplete"]
        if restored["incomplete"]:
            self._check_refused(repository, item, restored["incomplete"])
        else:
            assert {*restored["tags"], *restored["taken"]} == item["tags"].keys()

    def _check_refused(
        self, repository: Repository, item: dict[str, Any], incomplete: dict[str, str]
    ) -> None:
        """Check that what did not come back whole may be so.

        A tagged image that was deleted by itself was whole, and is as long as its repository is.
        """
        self.counts["items not whole any more"] += 1
        removed = datetime.fromisoformat(item["removed"])
        if len(item["manifests"]) != 1 or removed <= repository.removed:
            return
        if not item["tags"]:  # dropped by -m: perhaps of a push that a kill cut off
            return
        digest = item["manifests"][0]
        if digest in incomplete and not repository.manifests[digest].children:
            raise LostError(f"{repository.name}: {item} can't be restored: {incomplete}")

    def _roll_back(self) -> None:
        """Point a tag to what it pointed to before, or be told that this is gone."""
        repository = self._chance.choice(self.repositories)
        if not repository.pasts:
            return
        tag = self._chance.choice(sorted(repository.pasts))
        past = sorted(repository.pasts[tag])
        target = f"/v2/_dockyard/tags/{repository.name}/{tag}"
        if self._chance.random() < 0.5:
            target = with_query(target, digest=self._chance.choice(past))
        before = set(repository.tags.setdefault(tag, {None}))
        repository.tags[tag].update(past)
        answer = self._client.request("POST", target, body=b"")
        if answer.expect(200, 404).status == 404:
            repository.tags[tag] = before
            self.counts["rollbacks refused"] += 1
            return
        digest = answer.json()["digest"]
        repository.tags[tag] = {digest}
        self._pull_one(repository, tag, digest)
        self.counts["tags rolled back, and pulled"] += 1

    # Pulling

    def _pull(self) -> None:
        repository = self._chance.choice(self.repositories)
        self._settle_all(repository)
        wanted = repository.wanted()
        if wanted:
            tag = self._chance.choice(sorted(wanted))
            self._pull_one(repository, tag, wanted[tag])
            self.counts["images pulled meanwhile"] += 1

    def _settle_all(self, repository: Repository) -> None:
        for tag in list(repository.tags):
            self._settle(repository, tag)

    def _settle(self, repository: Repository, tag: str) -> None:
        """Learn what a tag points to for which an answer was lost: one of what it may point to."""
        possible = repository.tags[tag]
        if len(possible) > 1:
            answer = self._client.manifest(repository.name, tag, method="HEAD").expect(200, 404)
            found = answer.header("Docker-Content-Digest") if answer.status == 200 else None
            if found not in possible:
                raise LostError(f"{repository.name}:{tag} is {found}, not one of {possible}")
            repository.tags[tag] = {found}

    def _pull_one(self, repository: Repository, tag: str, digest: str) -> None:
        where = f"{repository.name}:{tag}"
        answer = self._client.manifest(repository.name, tag)
        if answer.status != 200 or digest_of(answer.body) != digest:
            raise LostError(f"{where}: {answer.status}, {answer.body[:200]!r}, not {digest}")
        self._pull_below(repository, where, digest)

    def _pull_below(self, repository: Repository, where: str, digest: str) -> None:
        known = repository.manifests[digest]
        for child in known.children:
            answer = self._client.manifest(repository.name, child)
            if answer.status != 200 or digest_of(answer.body) != child:
                raise LostError(f"{where}: child {child}: {answer.status}")
            self._pull_below(repository, where, child)
        for blob in known.blobs:
            got = self._client.blob(repository.name, blob)
            if got.status != 200 or digest_of(got.body) != blob:
                raise LostError(f"{where}: blob {blob}: {got.status} {got.body[:200]!r}")


def telling(output: str) -> str:
    """Return what a command said of trouble."""
    lines = [line for line in output.splitlines() if "can't read" in line or "failed" in line]
    return "\n".join(lines[:20]) or output[-2000:]


def layer_of(number: int) -> bytes:
    return random.Random(f"layer {number}").randbytes(2_000 + 500 * number)


class CollectorLoop:
    """Runs ``garbage-collect`` without pause, and sometimes kills it."""

    def __init__(self, registry: LiveRegistry, ending: threading.Event) -> None:
        self.counts: Final[Counter[str]] = Counter()
        self.problems: Final[list[str]] = []
        self._registry = registry
        self._ending = ending
        self._chance = random.Random(f"{SEED} collector")

    def run(self) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            options = ["-m"] if number % UNTAGGED_EVERY == 0 else []
            options += [] if self._chance.random() < EMPTIES else ["--keep-trash"]
            self.collect(*options, may_kill=True)

    def collect(self, *options: str, may_kill: bool = False) -> None:
        """Run the command once."""
        command = [server_program(), "garbage-collect", str(self._registry.config), *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if may_kill and self._chance.random() < 0.3:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self._chance.uniform(0.2, 2))
            if process.poll() is None:
                process.kill()
                self.counts["commands killed"] += 1
                process.communicate()
                return
        output, _ = process.communicate()
        if "another garbage-collect runs" in output:
            self.counts["commands that found another collection at work"] += 1
            return
        self.counts[" ".join(["collections by the command", *options])] += 1
        gone = output.count("blob eligible for deletion: ")
        self.counts["blobs collected by the command"] += gone
        if process.returncode != 0:
            self.problems.append(f"garbage-collect: {process.returncode}: {telling(output)}")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory if there is one: no kill needs the syncs, which take long."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as made:
        yield Path(made)


def test_no_acknowledged_image_is_lost(folder: Path) -> None:
    """`SECONDS` of it; afterwards all is there, and nothing but what is needed takes room."""
    print(f"\nDOCKYARD_TEST_SEED={SEED} DOCKYARD_TORTURE_SECONDS={SECONDS:.0f}")
    settings = {
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "http": {"workers": 2},
        "storage": {"maintenance": MAINTENANCE},
    }
    registry = LiveRegistry(folder, settings=settings).start()
    ending = threading.Event()
    pushers = [Pusher(registry, number, ending) for number in range(PUSHERS)]
    collector = CollectorLoop(registry, ending)
    everyone: list[Pusher | CollectorLoop] = [*pushers, collector]
    threads = [threading.Thread(target=each.run) for each in everyone]
    counts: Counter[str] = Counter()
    try:
        for thread in threads:
            thread.start()
        counts.update(kill_now_and_then(registry, ending))
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        problems = [problem for each in everyone for problem in each.problems]
        for pusher in pushers:
            pusher.audit()
        check_room(registry, collector, pushers, counts)
        for pusher in pushers:
            pusher.audit()
    finally:
        ending.set()
        registry.stop()
        for each in everyone:
            counts.update(each.counts)
        counts.update(logged(registry))
        print("\n".join(f"{count:8} {name}" for name, count in sorted(counts.items())))
    assert not problems, "\n".join(problems[:10])
    registry.assert_no_trace()
    assert counts["images verified at the end"] > 0
    assert counts["collections by the servers"] > SECONDS / 100  # most are killed


def logged(registry: LiveRegistry) -> Counter[str]:
    """Return what the servers' log tells of their own collections."""
    counts: Counter[str] = Counter()
    for line in registry.messages.splitlines():
        if "collection done" in line:
            counts["collections by the servers"] += 1
            found = re.search(r"\bblobs=(\d+)", line)
            counts["blobs collected by the servers"] += int(found[1]) if found else 0
        counts["collections by the servers that failed"] += "collection failed" in line
        counts["blobs brought back from the trash"] += "brought back from the trash" in line
        counts["state databases found damaged"] += "the state database is damaged" in line
    return counts


def kill_now_and_then(registry: LiveRegistry, ending: threading.Event) -> Counter[str]:
    """Kill the server at random moments and start it again, until the time is over.

    Sometimes it is one worker only, which the others must replace, and sometimes nobody is killed,
    but the state database removed, or a part of it.
    """
    chance = random.Random(f"{SEED} kills")
    over = time.monotonic() + SECONDS
    counts: Counter[str] = Counter()
    while time.monotonic() < over:
        time.sleep(min(chance.uniform(1, 12), max(0, over - time.monotonic())))
        what = chance.choice(["server", "server", "worker", "database"])
        if what == "database":
            for path in (registry.root / "docker/registry/v2/.dockyard/state").glob("*"):
                if chance.random() < 0.7:
                    path.unlink(missing_ok=True)
            counts["state databases removed"] += 1
        elif what == "worker":
            for worker in registry.workers[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                counts["workers killed"] += 1
        else:
            registry.kill()
            counts["servers killed"] += 1
            registry.start()
    ending.set()
    return counts


def check_room(
    registry: LiveRegistry,
    collector: CollectorLoop,
    pushers: list[Pusher],
    counts: Counter[str],
) -> None:
    """Check that nothing remains but what is needed, once the leases of lost pushes have expired.

    The command is run first, with the leases as they are; then a collection for which they have all
    expired, since a test can't wait for the grace period.
    """
    for _ in range(3):  # the servers' own collection may be at it
        collector.collect("-m")
    assert not collector.problems, collector.problems
    live = {digest for pusher in pushers for each in pusher.repositories for digest in each.live()}
    blobs = registry.root / "docker/registry/v2/blobs"
    counts["blobs live"] = len(live)
    held = stored(blobs)
    assert live <= held
    counts["blobs held by leases at the end"] = len(held - live)
    with capture_logs():
        anyio.run(collect_without_leases, registry)
    assert stored(blobs) == live
    assert not [
        path for path in blobs.parent.joinpath(".dockyard/trash").rglob("*") if path.is_file()
    ]


def stored(blobs: Path) -> set[str]:
    return {f"sha256:{path.parent.name}" for path in blobs.glob("sha256/*/*/data")}


async def collect_without_leases(registry: LiveRegistry) -> None:
    settings = load(registry.config, {}).settings
    storage = FilesystemStorage(registry.root)
    leases = Leases(storage, timedelta(seconds=-1))
    trash = Trash(storage)
    manifests = build_manifests(settings, Foundation(storage, leases, trash))
    collector = Collector(storage, manifests, leases, trash)
    result = await collector.run(Silent(), Plan(delete_untagged=True))
    assert not result.doubts
