"""``kill -9`` while clients push: what was acknowledged is there, nothing half-written is seen."""

import asyncio
import contextlib
import http.client
import os
import random
import shutil
import signal
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Final

from structlog.testing import capture_logs

from dockyard.clock import utc_now
from dockyard.core.purge import Purge
from dockyard.storage.filesystem import FilesystemStorage
from tests.crash.auditing import Auditor
from tests.crash.pushing import LOST, SEED, Crowd, Ledger, push_until_killed
from tests.live import LiveRegistry
from tests.registry_client import RegistryClient


ROUNDS: Final = 50
KILL_WITHIN: Final = (0.02, 0.6)
"""Seconds after the first push of a round between which the kill comes: a push takes some 10 ms."""

WORKER_KILLS: Final = 5

QUIET: Final = {
    "log": {"level": "warn", "accesslog": {"disabled": True}},
    "http": {"workers": 2},
}
"""Settings: the log of all these requests would be large."""


def test_nothing_acknowledged_is_lost_when_the_service_is_killed(tmp_path: Path) -> None:
    print(f"\nDOCKYARD_TEST_SEED={SEED}")
    began = time.monotonic()
    chance = random.Random(SEED)
    everything, counts = Ledger(), Counter[str]()
    registry = LiveRegistry(tmp_path, settings=QUIET).start()
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
    shutil.rmtree(registry.root)  # half a gigabyte, which pytest would keep


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
    """One of two is killed under pushes: the other serves, it comes back, nothing is lost."""
    print(f"\nDOCKYARD_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    with LiveRegistry(tmp_path, settings=QUIET) as registry:
        with Crowd(registry, "killed/worker") as crowd:
            for _ in range(WORKER_KILLS):
                time.sleep(chance.uniform(0.2, 0.6))
                registry.wait_for_workers(2)
                os.kill(chance.choice(registry.workers), signal.SIGKILL)
                assert all(is_served(registry) for _ in range(20)), "the other does not serve"
            registry.wait_for_workers(2)
        ledger, counts = crowd.ledger, Counter[str]()
        assert not ledger.problems, ledger.problems
        Auditor(registry, counts).audit(ledger, "killed/worker")
        print(f"pushed: {dict(ledger.counts)}; checked: {dict(counts)}")
        assert registry.messages.count("a worker ended and is replaced") == WORKER_KILLS
    registry.assert_no_trace()


def is_served(registry: LiveRegistry) -> bool:
    """Say whether a new connection is served; one that fell to the killed worker is made again."""
    for _ in range(2):
        with contextlib.suppress(*LOST), RegistryClient(registry.address) as client:
            return client.request("GET", "/v2/").status == http.HTTPStatus.OK
    return False
