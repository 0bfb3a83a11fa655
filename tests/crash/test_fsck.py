"""``fsck --repair`` again and again beside clients that push: nothing acknowledged is lost."""

import json
import os
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final, Self

from tests.crash.auditing import Auditor
from tests.crash.pushing import SEED, Crowd
from tests.live import LiveRegistry
from tests.parts.daemon import wait_for
from tests.parts.images import digest_of, image
from tests.parts.programs import attempt
from tests.parts.registries import server_program
from tests.registry_client import RegistryClient, assert_served


RUNS: Final = 5
QUIET: Final = {"log": {"level": "warn", "accesslog": {"disabled": True}}, "http": {"workers": 2}}


def fsck(registry: LiveRegistry, *flags: str) -> tuple[int, Any]:
    done = attempt(server_program(), "fsck", "--json", *flags, "--config", registry.config)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_repairs_beside_pushes_take_nothing_away(tmp_path: Path) -> None:
    print(f"\nDOCKYARD_TEST_SEED={SEED}")
    with LiveRegistry(tmp_path, settings=QUIET) as registry:
        with Crowd(registry, "beside/fsck") as crowd:
            found = [fsck(registry, "--repair", "--verify-digests") for _ in range(RUNS)]
        ledger, counts = crowd.ledger, Counter[str]()
        assert [said["problems"] for _, said in found] == [[]] * RUNS
        assert not ledger.problems, ledger.problems
        Auditor(registry, counts).audit(ledger, "beside/fsck")
        print(f"{RUNS} repairs; pushed: {dict(ledger.counts)}; checked: {dict(counts)}")
        assert counts.total() > RUNS
    registry.assert_no_trace()
    shutil.rmtree(registry.root)


class Healer:
    """A client that pushes one blob again and again."""

    def __init__(self, registry: LiveRegistry, name: str, body: bytes) -> None:
        self._registry, self._name, self._body = registry, name, body
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._push)
        self._pushed = 0

    def _push(self) -> None:
        with RegistryClient(self._registry.address) as client:
            while not self._stop.is_set():
                client.push_blob(self._name, self._body)
                self._pushed += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        before = self._pushed
        wait_for(lambda: self._pushed > before + 1, "the blob is pushed once more")
        self._stop.set()
        self._thread.join(30)


def test_damage_is_repaired_beside_who_pushes_the_same(tmp_path: Path) -> None:
    """A client heals by pushing what a repair sets aside, at the same time, again and again."""
    top = image("contended", layers=3, size=1 << 16)
    layer = top.blobs[-1]
    hexadecimals = layer.digest.removeprefix("sha256:")
    with LiveRegistry(tmp_path, settings=QUIET) as registry:
        with RegistryClient(registry.address) as client:
            client.push_image("contended", top, "1")
        blob = registry.root / f"docker/registry/v2/blobs/sha256/{hexadecimals[:2]}/{hexadecimals}"
        with Healer(registry, "contended", layer.body):
            for _ in range(8):
                damaged = tmp_path / "damaged"
                damaged.write_bytes(os.urandom(1000))
                damaged.replace(blob / "data")
                fsck(registry, "--repair", "--verify-digests", "--rate", "0")
        with RegistryClient(registry.address) as client:
            assert_served(client, "contended", top, "1")
        status, said = fsck(registry, "--verify-digests")
        assert (status, said["problems"]) == (0, [])
        assert digest_of((blob / "data").read_bytes()) == layer.digest
    registry.assert_no_trace()
