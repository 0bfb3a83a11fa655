"""The whole registry against a few dictionaries, under sequences of requests nobody thought of.

Two workers share one tree, and now and then one of them is restarted.
"""

import asyncio
import shutil
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from typing_extensions import override

from dockyard.oci import mediatype
from dockyard.storage.filesystem import FilesystemStorage
from tests.api.client import Answer, with_query
from tests.api.registry import REPOSITORIES, Registry
from tests.parts.images import ACCEPT_ALL, Content, digest_of, manifest


T = TypeVar("T")

NAMES = st.sampled_from(["a", "a/b", "a-b"])
TAGS = st.sampled_from(["v1", "v2", "latest"])
LAYERS = st.sampled_from([b"", b"one", b"two"])
WORKERS = st.integers(0, 1)
SEEDS = st.sampled_from(["x", "y"])


@dataclass
class Repository:
    """What a repository has."""

    blobs: set[bytes] = field(default_factory=set)
    manifests: dict[str, Content] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def has_content(self) -> bool:
        return bool(self.manifests)


def blob(content: bytes) -> Content:
    return Content("application/octet-stream", content)


def image(seed: str, layers: frozenset[bytes], subject: Content | None = None) -> Content:
    fields = {} if subject is None else {"subject": subject.descriptor()}
    return manifest(
        mediatype.OCI_MANIFEST,
        config=blob(b"one").descriptor(),
        layers=[blob(layer).descriptor() for layer in sorted(layers)],
        annotations={"seed": seed},
        **fields,
    )


class RegistryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._directory = TemporaryDirectory()
        self._root = Path(self._directory.name)
        self._workers = [self._start(), self._start()]
        self._model: dict[str, Repository] = {}
        self._seen: dict[str, Content] = {}
        self._runner = asyncio.Runner()

    def _start(self) -> Registry:
        return Registry(FilesystemStorage(self._root))

    def _run(self, operation: Coroutine[None, None, T]) -> T:
        return self._runner.run(operation)

    def _send(self, worker: int, method: str, target: str, body: bytes | None = None) -> Answer:
        headers = [("accept", kind) for kind in ACCEPT_ALL]
        return self._run(self._workers[worker].send(method, target, body, headers))

    def _repository(self, name: str) -> Repository:
        return self._model.setdefault(name, Repository())

    # What changes something.

    @initialize()
    def begin(self) -> None:
        """Begin with something to work on."""
        for name in ("a", "a/b"):
            for layer in (b"one", b"two"):
                self.push_blob(0, name, layer, chunked=False)
            self._push(1, name, "v1", image("x", frozenset()), missing=False)

    @rule(worker=WORKERS, name=NAMES, content=LAYERS, chunked=st.booleans())
    def push_blob(self, worker: int, name: str, content: bytes, *, chunked: bool) -> None:
        registry = self._workers[worker]
        if chunked:
            other = self._workers[1 - worker]
            location = self._run(registry.begin(name)).location
            location = self._run(other.send("PATCH", location, content)).location
            target = with_query(location, digest=digest_of(content))
            self._run(registry.send("PUT", target, b"")).expect(201)
        else:
            self._run(registry.push_blob(name, content))
        self._repository(name).blobs.add(content)

    @rule(worker=WORKERS, name=NAMES, source=NAMES, content=LAYERS)
    def mount(self, worker: int, name: str, source: str, content: bytes) -> None:
        query = f"mount={digest_of(content)}&from={source}"
        answer = self._send(worker, "POST", f"v2/{name}/blobs/uploads/?{query}")
        if content in self._repository(source).blobs:
            answer.expect(201)
            self._repository(name).blobs.add(content)
        else:
            self._send(worker, "DELETE", answer.expect(202).location).expect(204)

    @rule(worker=WORKERS, name=NAMES, content=LAYERS)
    def delete_blob(self, worker: int, name: str, content: bytes) -> None:
        answer = self._send(worker, "DELETE", f"v2/{name}/blobs/{digest_of(content)}")
        blobs = self._repository(name).blobs
        answer.expect(202 if content in blobs else 404)
        blobs.discard(content)

    def _push(
        self, worker: int, name: str, tag: str | None, top: Content, *, missing: bool
    ) -> None:
        reference = tag or top.digest
        answer = self._send(worker, "PUT", f"v2/{name}/manifests/{reference}", top.body)
        if missing:
            answer.expect(400)
            return
        answer.expect(201)
        assert answer.header("Docker-Content-Digest") == top.digest
        repository = self._repository(name)
        repository.manifests[top.digest] = self._seen[top.digest] = top
        if tag is not None:
            repository.tags[tag] = top.digest

    @rule(
        worker=WORKERS,
        name=NAMES,
        tag=st.none() | TAGS,
        seed=SEEDS,
        layers=st.frozensets(LAYERS, max_size=2),
        data=st.data(),
    )
    def push_image(
        self,
        worker: int,
        name: str,
        tag: str | None,
        seed: str,
        layers: frozenset[bytes],
        data: st.DataObject,
    ) -> None:
        subjects = st.none() | st.sampled_from([image("x", frozenset()), *self._seen.values()])
        subject = data.draw(subjects, label="subject")
        top = image(seed, layers, subject)
        missing = not {b"one", *layers} <= self._repository(name).blobs
        self._push(worker, name, tag, top, missing=missing)
        if subject is not None and not missing:
            self._repository(name).subjects[top.digest] = subject.digest

    @precondition(lambda self: self._seen)
    @rule(worker=WORKERS, name=NAMES, tag=st.none() | TAGS, data=st.data())
    def push_index(self, worker: int, name: str, tag: str | None, data: st.DataObject) -> None:
        choices = st.lists(st.sampled_from(list(self._seen.values())), max_size=2)
        children = data.draw(choices, label="children")
        top = manifest(mediatype.OCI_INDEX, manifests=[child.descriptor() for child in children])
        there = self._repository(name).manifests
        missing = any(child.digest not in there for child in children)
        self._push(worker, name, tag, top, missing=missing)

    @precondition(lambda self: self._seen)
    @rule(worker=WORKERS, name=NAMES, data=st.data())
    def delete_manifest(self, worker: int, name: str, data: st.DataObject) -> None:
        repository = self._repository(name)
        known = list(repository.manifests or self._seen)
        digest = data.draw(st.sampled_from(known), label="digest")
        answer = self._send(worker, "DELETE", f"v2/{name}/manifests/{digest}")
        answer.expect(202 if digest in repository.manifests else 404)
        repository.manifests.pop(digest, None)
        repository.subjects.pop(digest, None)
        repository.tags = {tag: to for tag, to in repository.tags.items() if to != digest}

    @rule(worker=WORKERS, name=NAMES, tag=TAGS)
    def delete_tag(self, worker: int, name: str, tag: str) -> None:
        tags = self._repository(name).tags
        answer = self._send(worker, "DELETE", f"v2/{name}/manifests/{tag}")
        answer.expect(202 if tag in tags else 404)
        tags.pop(tag, None)

    @rule(name=NAMES)
    def remove_by_hand(self, name: str) -> None:
        """``rm -rf`` of a repository, with all below it."""
        shutil.rmtree(self._root / REPOSITORIES / name, ignore_errors=True)
        for known in list(self._model):
            if known == name or known.startswith(f"{name}/"):
                del self._model[known]

    @rule(worker=WORKERS)
    def restart(self, worker: int) -> None:
        self._workers[worker] = self._start()

    # What must be seen.

    @rule(worker=WORKERS, name=NAMES, tag=TAGS)
    def pull_tag(self, worker: int, name: str, tag: str) -> None:
        repository = self._repository(name)
        answer = self._send(worker, "GET", f"v2/{name}/manifests/{tag}")
        if tag in repository.tags:
            digest = repository.tags[tag]
            assert answer.expect(200).header("Docker-Content-Digest") == digest
            assert answer.body == repository.manifests[digest].body
        else:
            answer.expect(404)

    @rule(worker=WORKERS, name=NAMES, content=LAYERS)
    def pull_blob(self, worker: int, name: str, content: bytes) -> None:
        answer = self._send(worker, "GET", f"v2/{name}/blobs/{digest_of(content)}")
        if content in self._repository(name).blobs:
            assert answer.expect(200).body == content
        else:
            answer.expect(404)

    @precondition(lambda self: self._seen)
    @rule(worker=WORKERS, name=NAMES, data=st.data())
    def list_referrers(self, worker: int, name: str, data: st.DataObject) -> None:
        subject = data.draw(st.sampled_from(list(self._seen)), label="subject")
        answer = self._send(worker, "GET", f"v2/{name}/referrers/{subject}").expect(200)
        found = [entry["digest"] for entry in answer.json()["manifests"]]
        subjects = self._repository(name).subjects
        assert found == sorted(digest for digest, to in subjects.items() if to == subject)

    @rule(worker=WORKERS, size=st.integers(1, 3))
    def list_everything(self, worker: int, size: int) -> None:
        registry = self._workers[worker]
        pages = self._run(registry.pages(f"v2/_catalog?n={size}"))
        names = [name for page in pages for name in page.json()["repositories"]]
        full = (name for name, repository in self._model.items() if repository.has_content)
        assert names == sorted(full, key=lambda name: name.split("/"))
        for name in names:
            pages = self._run(registry.pages(f"v2/{name}/tags/list?n={size}"))
            tags = [tag for page in pages for tag in page.json()["tags"]]
            assert tags == sorted(self._model[name].tags)

    @override
    def teardown(self) -> None:
        try:
            self._workers.append(self._start())
            for worker in range(3):
                self.list_everything(worker, 3)
                for name, repository in self._model.items():
                    for digest, top in repository.manifests.items():
                        got = self._send(worker, "GET", f"v2/{name}/manifests/{digest}")
                        assert got.expect(200).body == top.body
            uploads = self._root.rglob("_uploads/*")
            assert list(uploads) == []
        finally:
            self._runner.close()
            self._directory.cleanup()


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
