"""One tag, many clients, two workers: no errors, and an order in which everything happened."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from math import inf
from pathlib import Path
from typing import Final

import pytest

from tests.faults.linearizability import Operation, violations
from tests.live import LiveRegistry, serving
from tests.parts.images import ACCEPT_ALL, OCI_CONFIG, OCI_MANIFEST, Content, digest_of, manifest
from tests.registry_client import RegistryClient


NAME: Final = "tags/one"
CONFIG: Final = Content(OCI_CONFIG, b"{}")
SECONDS: Final = 4.0
WRITERS: Final = 8
READERS: Final = 3
ROUNDS: Final = 25


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRegistry]:
    settings = {"log": {"level": "warn", "accesslog": {"disabled": True}}, "http": {"workers": 2}}
    with serving(tmp_path_factory.mktemp("tags"), settings) as running:
        with RegistryClient(running.address) as client:
            client.push_blob(NAME, CONFIG.body)
        yield running


def version(number: str) -> bytes:
    """Return a manifest unlike any other."""
    return manifest(
        OCI_MANIFEST, config=CONFIG.descriptor(), layers=[], annotations={"number": number}
    ).body


def together(*jobs: Callable[[], None]) -> None:
    """Run `jobs` each in a thread; raise what one of them raised."""
    failures: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 -- raised again below, in the test's thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if failures:
        raise failures[0]


class Worker:
    """One client, and the history of what it did to the tag."""

    def __init__(self, registry: LiveRegistry, tag: str, number: int, *, reconnects: bool) -> None:
        self.history: list[Operation] = []
        self.instances: set[str] = set()
        self._registry = registry
        self._tag = tag
        self._number = number
        self._reconnects = reconnects

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        return {**headers, "Connection": "close"} if self._reconnects else headers

    def write(self, until: float) -> None:
        target, count = f"/v2/{NAME}/manifests/{self._tag}", 0
        with RegistryClient(self._registry.address) as client:
            while time.monotonic() < until:
                body = version(f"{self._tag} {self._number} {count}")
                headers = self._headers({"Content-Type": OCI_MANIFEST})
                began = time.monotonic()
                answer = client.request("PUT", target, body=body, headers=headers)
                answer.expect(201)
                self._note(digest_of(body), began, answer.header("X-Request-Id"), is_write=True)
                count += 1

    def read(self, until: float) -> None:
        target = f"/v2/{NAME}/manifests/{self._tag}"
        with RegistryClient(self._registry.address) as client:
            while time.monotonic() < until:
                headers = self._headers({"Accept": ", ".join(ACCEPT_ALL)})
                began = time.monotonic()
                answer = client.request("GET", target, headers=headers).expect(200)
                digest = answer.header("Docker-Content-Digest")
                self._note(digest, began, answer.header("X-Request-Id"), is_write=False)
                assert digest_of(answer.body) == digest

    def _note(self, value: str, began: float, request: str, *, is_write: bool) -> None:
        self.history.append(Operation(value, began, time.monotonic(), is_write))
        self.instances.add(request[:16])


def test_eight_writers_and_three_readers_of_one_tag(registry: LiveRegistry) -> None:
    tag = "contested"
    first = version("first")
    with RegistryClient(registry.address) as client:
        client.push_manifest(NAME, tag, first, OCI_MANIFEST).expect(201)
    writers = [Worker(registry, tag, n, reconnects=n % 2 == 0) for n in range(WRITERS)]
    readers = [Worker(registry, tag, n, reconnects=n % 2 == 0) for n in range(READERS)]
    until = time.monotonic() + SECONDS
    together(
        *(lambda writer=writer: writer.write(until) for writer in writers),
        *(lambda reader=reader: reader.read(until) for reader in readers),
    )
    history = [Operation(digest_of(first), -inf, -inf, is_write=True)]
    history += [operation for worker in (*writers, *readers) for operation in worker.history]
    assert violations(history) == []
    reads = sum(not operation.is_write for operation in history)
    print(f"\n{len(history) - reads} writes and {reads} reads of one tag, no errors, linearizable")
    assert reads > 20
    assert len(history) - reads > 20
    assert len(set.union(*(each.instances for each in (*writers, *readers)))) == 2


def race(
    registry: LiveRegistry, tag: str, number: int, condition: dict[str, str]
) -> tuple[Counter[int], list[str]]:
    """Let eight clients push another manifest each under one condition; return how that went."""
    statuses: list[int] = []
    winners: list[str] = []
    start = threading.Barrier(WRITERS)

    def push(client: int) -> None:
        body = version(f"{tag} {number} {client}")
        headers = {"Content-Type": OCI_MANIFEST, **condition}
        with RegistryClient(registry.address) as connected:
            connected.request("GET", "/v2/")
            start.wait(30)
            answer = connected.request(
                "PUT", f"/v2/{NAME}/manifests/{tag}", body=body, headers=headers
            )
        statuses.append(answer.status)
        if answer.status == HTTPStatus.CREATED:
            winners.append(digest_of(body))
        else:
            error = answer.expect(412).json()["errors"][0]
            assert error["detail"]["tag"] == tag

    together(*(lambda client=client: push(client) for client in range(WRITERS)))
    return Counter(statuses), winners


def test_of_several_clients_with_one_condition_one_wins(registry: LiveRegistry) -> None:
    tag = "conditional"
    current = version("before")
    with RegistryClient(registry.address) as client:
        client.push_manifest(NAME, tag, current, OCI_MANIFEST).expect(201)
        digest = digest_of(current)
        for number in range(ROUNDS):
            statuses, winners = race(registry, tag, number, {"If-Match": f'"{digest}"'})
            assert statuses == {201: 1, 412: WRITERS - 1}
            now = client.manifest(NAME, tag).expect(200).header("Docker-Content-Digest")
            assert [now] == winners
            digest = now


def test_of_several_clients_that_make_a_tag_one_wins(registry: LiveRegistry) -> None:
    with RegistryClient(registry.address) as client:
        for number in range(ROUNDS):
            tag = f"made-{number}"
            statuses, winners = race(registry, tag, number, {"If-None-Match": "*"})
            assert statuses == {201: 1, 412: WRITERS - 1}
            now = client.manifest(NAME, tag).expect(200).header("Docker-Content-Digest")
            assert [now] == winners


class TestTheCheckItself:
    """It finds what a registry could do wrong."""

    @staticmethod
    def history(*operations: tuple[str, str, float, float]) -> list[Operation]:
        return [
            Operation(value, began, ended, is_write=kind == "w")
            for kind, value, began, ended in operations
        ]

    @pytest.mark.parametrize(
        "operations",
        [
            pytest.param([("w", "a", 0, 1), ("r", "a", 2, 3), ("w", "b", 4, 5)], id="in turn"),
            pytest.param([("w", "a", 0, 9), ("w", "b", 1, 8), ("r", "b", 2, 3)], id="at once"),
            pytest.param([("w", "a", 0, 1), ("w", "b", 2, 9), ("r", "a", 3, 4)], id="not yet"),
            pytest.param([("w", "a", 0, inf), ("r", "a", 3, 4)], id="unanswered"),
        ],
    )
    def test_what_can_be_explained_is(
        self, operations: list[tuple[str, str, float, float]]
    ) -> None:
        assert violations(self.history(*operations)) == []

    @pytest.mark.parametrize(
        "operations",
        [
            pytest.param([("w", "a", 0, 1), ("w", "b", 2, 3), ("r", "a", 4, 5)], id="stale"),
            pytest.param([("r", "a", 0, 1), ("w", "a", 2, 3)], id="from the future"),
            pytest.param([("w", "a", 0, 1), ("r", "b", 2, 3)], id="from nowhere"),
            pytest.param(
                [("w", "a", 0, 1), ("w", "b", 2, 9), ("r", "b", 3, 4), ("r", "a", 5, 6)],
                id="back and forth",
            ),
            pytest.param(
                [
                    ("w", "a", 0, 9),
                    ("w", "b", 0, 9),
                    *(("r", value, 10.0 + n, 10.5 + n) for n, value in enumerate("aba")),
                ],
                id="twice",
            ),
        ],
    )
    def test_what_cannot_be_explained_is_not(
        self, operations: list[tuple[str, str, float, float]]
    ) -> None:
        assert violations(self.history(*operations))


def test_the_history_of_a_tag_names_every_manifest_it_pointed_to(registry: LiveRegistry) -> None:
    """The collector relies on it, and so does distribution."""
    tag, bodies = "history", [version(f"history {number}") for number in range(16)]

    def push(body: bytes) -> None:
        with RegistryClient(registry.address) as client:
            client.push_manifest(NAME, tag, body, OCI_MANIFEST).expect(201)

    together(*(lambda body=body: push(body) for body in bodies))
    folder = Path(registry.root, "docker/registry/v2/repositories", NAME, "_manifests/tags", tag)
    links = {path.read_text() for path in (folder / "index").rglob("link")}
    assert links == {digest_of(body) for body in bodies}
    assert (folder / "current/link").read_text() in links
    assert json.loads(bodies[0])["annotations"]
