"""The state database is deleted in the middle of everything, again and again; no image is lost."""

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from dockyard.storage import layout
from tests.live import LiveRegistry, serving
from tests.parts.images import Image, image
from tests.registry_client import RegistryClient, assert_served


SECONDS = 16.0
"""Longer than it takes workers to write down what was pulled."""

SETTINGS = {
    "http": {"workers": 2},
    "storage": {
        "maintenance": {
            "gc": {
                "enabled": True,
                "interval": "1s",
                "grace": "1m",
                "delay": "0s",
                "deleteuntagged": True,
                "keeppulled": "24h",
            },
            "trash": {"retention": "1s"},
        }
    },
}


class Turmoil:
    """What goes on at once, until the time is over or one of it fails."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def begin(self, work: Callable[[], None]) -> None:
        """Do `work` over and over."""
        thread = threading.Thread(target=self._repeat, args=(work,))
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Return when all has ended; raise what failed."""
        for thread in self._threads:
            thread.join()
        for failure in self._failures:
            raise failure

    def _repeat(self, work: Callable[[], None]) -> None:
        try:
            while time.monotonic() < self._end and not self._failures:
                work()
        except BaseException as failure:  # noqa: BLE001 -- raised by `wait`
            self._failures.append(failure)


class Pusher:
    """Pushes images, pulls them, moves a tag over them, and deletes some."""

    def __init__(self, registry: LiveRegistry, name: str) -> None:
        self._client = RegistryClient(registry.address)
        self._name = name
        self._number = 0
        self.kept: dict[str, Image] = {}

    def step(self) -> None:
        self._number += 1
        top = image(f"{self._name} {self._number}", layers=1)
        tag = f"v{self._number}"
        self._client.push_image(self._name, top, tag, "latest")
        assert_served(self._client, self._name, top, tag, "latest")
        if self._number % 3 == 0:
            self._client.delete_manifest(self._name, top.digest).expect(202)
        else:
            self.kept[tag] = top

    def verify(self, registry: LiveRegistry) -> None:
        with RegistryClient(registry.address) as client:
            for tag, top in self.kept.items():
                assert_served(client, self._name, top, tag)

    def close(self) -> None:
        self._client.close()


class Deleter:
    """Deletes the state database: a file of it, or all of it."""

    def __init__(self, root: Path) -> None:
        self._database = root / layout.state_database()
        self._random = Random(3)
        self.deleted = 0

    def step(self) -> None:
        time.sleep(self._random.uniform(0, 0.3))
        suffix = self._random.choice(["", "-wal", "-shm", None])
        with suppress(FileNotFoundError, OSError):
            if suffix is None:
                shutil.rmtree(self._database.parent)
            else:
                self._database.with_name(self._database.name + suffix).unlink()
            self.deleted += 1


def test_nobody_notices_and_every_image_verifies(tmp_path: Path) -> None:
    with serving(tmp_path, SETTINGS) as registry:
        turmoil, deleter = Turmoil(SECONDS), Deleter(registry.root)
        pushers = [Pusher(registry, f"turmoil/{number}") for number in range(3)]
        for work in (*(pusher.step for pusher in pushers), deleter.step):
            turmoil.begin(work)
        turmoil.wait()
        for pusher in pushers:
            pusher.close()
            pusher.verify(registry)
        registry.restart()
        for pusher in pushers:
            pusher.verify(registry)
        images = sum(len(pusher.kept) for pusher in pushers)
        collections = registry.messages.count('msg="collection done"')
        print(f"{images} images, {deleter.deleted} deletions, {collections} collections")
        assert images > 10
        assert deleter.deleted >= 2  # it comes back when something is written there
        assert collections >= 2
        assert registry.complaints() == []
