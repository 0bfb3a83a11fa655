"""``rm -rf`` of a repository while it is served and pushed to: a supported operation."""

import http.client
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.live import LiveRegistry, serving
from tests.parts.images import digest_of, image
from tests.registry_client import RegistryClient, assert_served


SECONDS: Final = 4.0
NAME: Final = "removed/often"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LiveRegistry]:
    settings = {"log": {"accesslog": {"disabled": True}}, "http": {"workers": 2}}
    with serving(tmp_path, settings) as running:
        yield running


def remove(registry: LiveRegistry, name: str) -> None:
    """Remove a repository, however much is being written into it, as a patient ``rm -rf`` does."""
    folder = registry.root / "docker/registry/v2/repositories" / name
    while folder.exists():
        with suppress(OSError):
            shutil.rmtree(folder)


def test_a_removed_repository_is_gone_at_once_on_every_worker(registry: LiveRegistry) -> None:
    kept, gone = image("kept"), image("gone")
    clients = [RegistryClient(registry.address) for _ in range(8)]
    with clients[0] as client:
        client.push_image("removed/kept", kept, "v1")
        client.push_image(NAME, gone, "v1")
    for each in clients:
        assert_served(each, NAME, gone, "v1")
        assert each.referrers(NAME, gone.digest) == []
    remove(registry, NAME)
    for each in clients:
        assert each.manifest(NAME, "v1").expect(404).codes() == ["MANIFEST_UNKNOWN"]
        assert each.manifest(NAME, gone.digest).expect(404).codes() == ["MANIFEST_UNKNOWN"]
        assert each.blob(NAME, gone.blobs[0].digest).expect(404).codes() == ["BLOB_UNKNOWN"]
        tags = each.request("GET", f"/v2/{NAME}/tags/list")
        assert tags.expect(404).codes() == ["NAME_UNKNOWN"]
        assert each.referrers(NAME, gone.digest) == []
        assert each.catalog() == ["removed/kept"]
        assert_served(each, "removed/kept", kept, "v1")
    for each in clients:
        each.push_image(NAME, gone, "v1")
        assert_served(each, NAME, gone, "v1")
        each.close()


def test_uploads_of_a_removed_repository_are_unknown(registry: LiveRegistry) -> None:
    with RegistryClient(registry.address) as client:
        location = client.start_upload(NAME)
        remove(registry, NAME)
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            target = f"{location}?digest=sha256:{'0' * 64}" if method == "PUT" else location
            answer = client.request(method, target, body=b"")
            assert answer.expect(404).codes() == ["BLOB_UPLOAD_UNKNOWN"]
        client.push_blob(NAME, b"begun anew")


class Pusher:
    """Pushes images to the repository until told to stop, and remembers how that went."""

    def __init__(self, registry: LiveRegistry, number: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self._registry = registry
        self._number = number

    def run(self, until: float) -> None:
        count = 0
        with RegistryClient(self._registry.address) as client:
            while time.monotonic() < until:
                count += 1
                top = image(f"{self._number} {count}", layers=1)
                try:
                    for content in top.blobs:
                        self._push_blob(client, content.body)
                    answer = client.push_manifest(
                        NAME, f"v{self._number}", top.manifest.body, top.manifest.media_type
                    )
                    self._note(answer.status, answer.body)
                except http.client.HTTPException as error:
                    self.failures.append(repr(error))

    def _push_blob(self, client: RegistryClient, body: bytes) -> None:
        answer = client.request("POST", f"/v2/{NAME}/blobs/uploads/", body=b"")
        self._note(answer.status, answer.body)
        if answer.status == 202:
            target = f"{answer.header('Location')}?digest={digest_of(body)}"
            answer = client.request("PUT", target, body=body)
            self._note(answer.status, answer.body)

    def _note(self, status: int, body: bytes) -> None:
        self.statuses[status] += 1
        if status >= 500:
            self.failures.append(body.decode())


def test_removing_a_repository_while_it_is_pushed_to(registry: LiveRegistry) -> None:
    """Pushes that lose what they built on are told so; others don't notice."""
    kept = image("kept")
    with RegistryClient(registry.address) as client:
        client.push_image("removed/kept", kept, "v1")
        pushers = [Pusher(registry, number) for number in range(4)]
        until = time.monotonic() + SECONDS
        threads = [threading.Thread(target=each.run, args=(until,)) for each in pushers]
        for thread in threads:
            thread.start()
        removals = 0
        while time.monotonic() < until:
            time.sleep(0.02)
            remove(registry, NAME)
            removals += 1
            assert_served(client, "removed/kept", kept, "v1")
            assert "removed/kept" in client.catalog()
        for thread in threads:
            thread.join(30)
        statuses = sum((each.statuses for each in pushers), Counter())
        failures = [failure for each in pushers for failure in each.failures]
        print(f"\n{removals} removals while pushing: {dict(statuses)}")
        # Only a removal between a name and its sync has no better answer than to try again.
        assert statuses[503] <= statuses.total() / 100
        assert statuses.keys() <= {201, 202, 400, 404, 503}
        assert len(failures) == statuses[503], failures
        assert statuses[201] > 10
        top = image("after")
        client.push_image(NAME, top, "v1")
        assert_served(client, NAME, top, "v1")
