"""The application in process, asked anything: each time a whole and decent answer below 500."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pytest
from hypothesis import given, strategies as st

from tests.hostile.conftest import KEPT, assert_names_are_legal
from tests.hostile.fuzzing import (
    FUZZED,
    bounded,
    header_values,
    headers,
    json_values,
    methods,
    queries,
    raw_paths,
)
from tests.inprocess import application, recorded_log
from tests.parts.images import digest_of


OPERATIONS: Final = 14
"""Requests to one upload, at most: enough for any two faults to meet."""


@dataclass
class Answered:
    """What the application answered."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name.lower()), "")


class Asked:
    """The application and a loop to run it in."""

    def __init__(self, folder: Path, log: list[dict[str, Any]]) -> None:
        self.root = folder / "root"
        self._log = log
        self._served = application(folder)
        self._runner = asyncio.Runner()

    def close(self) -> None:
        self._runner.close()

    def __call__(
        self,
        method: str,
        raw_path: str,
        query: str = "",
        fields: list[tuple[str, str]] | None = None,
        body: list[bytes] | None = None,
        *,
        leaves: bool = False,
    ) -> Answered:
        """Ask, and check what any answer must be.

        Args:
            body: the pieces in which it arrives.
            leaves: whether the client leaves instead of sending the last piece.
        """
        answered = Answered()
        pieces = list(body or [b""])
        received = iter(pieces)
        left = len(pieces)

        async def receive() -> dict[str, Any]:
            nonlocal left
            left -= 1
            if left < 0 or (leaves and left == 0):
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": next(received), "more_body": left > 0}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                assert not answered.status
                answered.status = message["status"]
                answered.headers = [
                    (name.decode("latin-1").lower(), value.decode("latin-1"))
                    for name, value in message["headers"]
                ]
            else:
                answered.body += message.get("body", b"")
                answered.complete = not message.get("more_body", False)

        scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "http_version": "1.1",
            "raw_path": raw_path.encode("latin-1"),
            "path": unquote(raw_path),
            "query_string": query.encode("latin-1"),
            "headers": [
                (b"host", b"a"),
                *((name.encode(), value.strip().encode("latin-1")) for name, value in fields or []),
            ],
            "client": ("127.0.0.1", 1),
        }
        self._log.clear()
        self._runner.run(self._served(scope, receive, send))  # type: ignore[arg-type]
        assert not [entry for entry in self._log if entry.get("exc_info")], self._log
        if not leaves:
            check(answered, method)
        return answered


def check(answered: Answered, method: str) -> None:
    """Assert what is true of any answer to any request."""
    assert answered.complete
    assert 200 <= answered.status < 500, answered
    for name, value in answered.headers:
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"[\x20-\x7e\x80-\xff]*", value), (name, value)
    if answered.status not in {204, 304} and method != "HEAD":
        assert answered.header("content-length") == str(len(answered.body))
    if answered.status >= 400 and answered.header("content-type") == "application/json":
        for error in json.loads(answered.body)["errors"]:
            assert re.fullmatch(r"[A-Z_]+", error["code"])
            assert error["message"]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with recorded_log() as log:
        asked = Asked(tmp_path_factory.mktemp("fuzz"), log)
        fill(asked)
        yield asked
        assert_names_are_legal(asked.root)
        asked.close()


def fill(asked: Asked) -> None:
    """Push the image that the others are compared with."""
    for content in KEPT.blobs:
        query = f"digest={content.digest}"
        assert (
            asked("POST", f"/v2/{FUZZED}/blobs/uploads/", query, body=[content.body]).status == 201
        )
    fields = [("content-type", KEPT.manifest.media_type)]
    kept = asked("PUT", f"/v2/{FUZZED}/manifests/v1", "", fields, [KEPT.manifest.body])
    assert kept.status == 201


@bounded(600)
@given(
    method=methods,
    raw_path=raw_paths,
    query=queries,
    fields=headers,
    body=st.lists(st.binary(max_size=40), max_size=3),
)
def test_any_request_is_answered(
    ask: Asked,
    method: str,
    raw_path: str,
    query: str,
    fields: list[tuple[str, str]],
    body: list[bytes],
) -> None:
    ask(method, raw_path, query, fields, body)


@bounded(300)
@given(path=st.text(max_size=60), query=st.binary(max_size=60), method=st.text(max_size=10))
def test_any_path_is_answered(ask: Asked, path: str, query: bytes, method: str) -> None:
    """Whatever another server makes of a request target."""
    raw = "/v2/" + path.encode("utf-8", "replace").decode("latin-1")
    ask(method, raw, query.decode("latin-1"))


@bounded(500)
@given(
    value=json_values,
    content_type=header_values,
    reference=st.sampled_from(["v1", "new", "digest"]),
    split=st.integers(0, 200),
)
def test_any_json_is_answered_as_a_manifest(
    ask: Asked, value: object, content_type: str, reference: str, split: int
) -> None:
    """And if it is taken, everything about it can be asked for."""
    body = json.dumps(value).encode()
    digest = digest_of(body)
    target = f"/v2/hostile/json/manifests/{digest if reference == 'digest' else reference}"
    fields = [("content-type", content_type)]
    answered = ask("PUT", target, "", fields, [body[:split], body[split:]])
    assert answered.status in {201, 400}
    if answered.status == 201:
        got = ask("GET", target, fields=[("accept", "*/*")])
        assert (got.status, got.body) == (200, body)
        assert got.header("docker-content-digest") == digest
        ask("GET", f"/v2/hostile/json/referrers/{digest}")
        ask("GET", target, fields=[("accept", "application/vnd.oci.image.manifest.v1+json")])
        assert ask("GET", "/v2/hostile/json/tags/list").status == 200
        ask("DELETE", f"/v2/hostile/json/manifests/{digest}")


@bounded(300)
@given(value=json_values)
def test_any_json_in_the_tree_is_answered(ask: Asked, value: object) -> None:
    """What another program wrote there, or what an older one took."""
    body = json.dumps(value).encode()
    digest = digest_of(body)
    hexadecimals = digest.removeprefix("sha256:")
    base = ask.root / "docker/registry/v2"
    data = base / "blobs/sha256" / hexadecimals[:2] / hexadecimals / "data"
    link = base / "repositories/hostile/tree/_manifests/revisions/sha256" / hexadecimals / "link"
    for path, content in ((data, body), (link, digest.encode())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    got = ask("GET", f"/v2/hostile/tree/manifests/{digest}", fields=[("accept", "*/*")])
    assert got.status in {200, 400, 404}
    assert got.status != 200 or got.body == body
    ask("GET", f"/v2/hostile/tree/referrers/{KEPT.digest}")
    assert ask("GET", "/v2/hostile/tree/tags/list").status == 200
    assert ask("DELETE", f"/v2/hostile/tree/manifests/{digest}").status == 202


class Session:
    """One upload, and what should have arrived of it."""

    def __init__(self, ask: Asked) -> None:
        self._ask = ask
        answered = ask("POST", "/v2/hostile/session/blobs/uploads/")
        self.received = b""
        self.is_open = True
        self.path = path_of(answered)

    def patch(self, pieces: list[bytes], start: int | None, *, leaves: bool) -> None:
        body = b"".join(pieces)
        fields = []
        if start is not None and body:
            fields.append(("content-range", f"{start}-{start + len(body) - 1}"))
        path = self.path.rpartition(".")[0] if start is None else self.path
        answered = self._ask("PATCH", path, "", fields, pieces or [b""], leaves=leaves)
        if not self.is_open:
            assert leaves or answered.status == 404
            return
        fits = start is None or not body or start == len(self.received)
        if leaves:
            if fits:
                self.received += b"".join(pieces[:-1])
            self.path = self.where()
        elif fits:
            assert answered.status == 202
            self.received += body
            self.path = path_of(answered)
            assert answered.header("range") == self.range
        else:
            assert answered.status == 416
            assert answered.header("range") == self.range

    @property
    def range(self) -> str:
        return f"0-{max(len(self.received) - 1, 0)}"

    def where(self) -> str:
        """Ask for the upload's state, check it, and return the path it gives."""
        answered = self._ask("GET", self.path)
        assert answered.status == (204 if self.is_open else 404)
        if not self.is_open:
            return self.path
        assert answered.header("range") == self.range
        return path_of(answered)

    def cancel(self) -> None:
        answered = self._ask("DELETE", self.path)
        assert answered.status == (204 if self.is_open else 404)
        self.is_open = False

    def finish(self, last: bytes, *, honest: bool) -> None:
        body = self.received + last
        digest = digest_of(body if honest else body + b"!")
        answered = self._ask("PUT", self.path, f"digest={digest}", body=[last])
        if not self.is_open:
            assert answered.status == 404
            return
        self.is_open = False
        assert answered.status == (201 if honest else 400)
        blob = self._ask("GET", f"/v2/hostile/session/blobs/{digest}")
        if honest:
            assert (blob.status, blob.body) == (200, body)


def path_of(answered: Answered) -> str:
    """Return the path in the Location of an answer."""
    return answered.header("location").removeprefix("http://a")


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("patch"),
            st.lists(st.binary(max_size=30), max_size=3),
            st.sampled_from(["unsaid", "right", "zero", "before", "after"]),
            st.booleans(),
        ),
        st.tuples(st.just("where")),
        st.tuples(st.just("finish"), st.binary(max_size=10), st.booleans()),
        st.tuples(st.just("cancel")),
    ),
    max_size=OPERATIONS,
)


@bounded(250)
@given(steps=operations)
def test_any_sequence_of_chunks_is_kept_in_order(ask: Asked, steps: list[tuple[Any, ...]]) -> None:
    session = Session(ask)
    for step in steps:
        match step:
            case ("patch", pieces, where, leaves):
                at = len(session.received)
                offsets = {"unsaid": None, "right": at, "zero": 0, "before": max(at - 1, 0)}
                session.patch(pieces, offsets.get(where, at + 1), leaves=leaves)
            case ("finish", last, honest):
                session.finish(last, honest=honest)
            case ("cancel",):
                session.cancel()
            case _:
                session.where()
    if session.is_open:
        session.finish(b"", honest=True)
