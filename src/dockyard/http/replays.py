"""Answers that are given again, without doing again what led to them.

Hundreds of nodes that pull one image send the same bytes, since they run the same program, and get
the same answer. So the answer to a GET or HEAD of a manifest, to a GET of a small blob, or to a
HEAD of any is kept as it was sent, under the bytes of the request's head; in HTTP/2, of the head's
fields. Before it is given again, its `Witness` is asked whether the links (and the file of the
blob) on which it rests are the same: it is never given out of memory alone. Whatever is not so
takes the ordinary way, which also is how answers get here.

Who asks for a blob by HEAD is about to push, and relies on the answer: each time that is written
down first (see `dockyard.core.leases`), for the one who asks.

Where requests are let in by who asks, an answer is given again for `ADMITTED` at most; then the
gate looks again. Answers that depend on more than a head's bytes (a client's certificate, an API
key that may be revoked) are not kept. Heads with credentials are not kept either, but keyed hashes
of them. New rules make new `Replays`.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

from dockyard.core.pulls import Pulls
from dockyard.core.standing import Promise, Standing
from dockyard.http.messages import Request, Response, client_name
from dockyard.oci import manifest as grammar
from dockyard.oci.digest import Digest
from dockyard.storage.interface import Witness


HEAD: Final = "dockyard.head"
"""The key of an ASGI scope under which the server puts the `Head` of a request that it would take
to `Replays.find` if it came again: one without a body, which keeps the connection.
"""

REPLAY: Final = "dockyard.replay"
"""The key of an ASGI scope under which the `Replay` is that waits for the answer to be sent."""

ADMITTED: Final = 1.0
"""Seconds for which who was let in is let in again with the same bytes, unseen by the gate."""

HEAD_LIMIT: Final = 4 << 10
"""Bytes of a head that is kept, or its hash: docker's have 300, with a bearer token 2 000."""

MOST: Final = 2048
"""Answers kept, with their heads 8 MB at most. One more, and all are forgotten: they come back."""

MOST_BYTES: Final = 16 << 20
"""Bytes of the bodies of all answers kept."""

BODY_LIMIT: Final = 64 << 10
"""Bytes of a body that is kept: it is sent by one call, which copies it."""

SEEN: Final = 4096
"""Heads remembered as seen once, by a number: most requests are never repeated, and not kept."""

_HARMLESS: Final = frozenset(
    {
        *(b"accept", b"accept-encoding", b"accept-language", b"authorization", b"connection"),
        *(b"host", b"referer", b"user-agent", b"x-forwarded-for", b"x-forwarded-host"),
        *(b"x-forwarded-port", b"x-forwarded-proto", b"x-meta-source-client", b"x-real-ip"),
    }
)
"""Fields of a head that an answer may be kept for. Conditions and ranges are not among them."""


Pack: TypeAlias = Callable[[Sequence[tuple[bytes, bytes]]], bytes]
"""Renders the fields of an answer as they are sent, but for the value of the last one."""


class Head(NamedTuple):
    """A head that may come again.

    Attributes:
        octets: what it is known by. No two requests that differ in anything have the same.
        pack: how the version of HTTP that it came by sends the fields of an answer.
    """

    octets: bytes
    pack: Pack


@dataclass(frozen=True, slots=True)
class _Truth:
    """What an answer rests on, and what it says.

    Attributes:
        witness: what it rests on.
        body: as it is sent.
        pull: the repository and the manifest that are pulled by it, if any.
        promise: the repository and the blob that whoever asks is told of, if any.
        forwarded: for whom the peer says that it asks; see `Request.forwarded`.
        agent: the program that asks; see `Request.agent`.
    """

    witness: Witness
    body: bytes = b""
    pull: tuple[str, Digest] | None = None
    promise: Promise | None = None
    forwarded: str = ""
    agent: str = ""


@dataclass(slots=True, eq=False)
class Replay:
    """An answer that can be given again.

    Attributes:
        key: what it is kept under.
        hashed: whether that is the keyed hash of a head.
        truth: what it rests on, and what it says.
        until: when the gate looks again, by the monotonic clock.
        noted: the turn of `Pulls` in which the pull was noted.
        fields: those of its head as they were sent, up to the value of ``X-Request-Id``.
        scope: what observers need of the ASGI scope.
        line: the log's line about it; see `dockyard.telemetry.LineWriter.template`.
        access: what follows the time in the access log's line.
        user: who asks, as the access log says.
        remote: who asks, as the log says; `None`: whoever is at the other end.
        home: where it is kept: what other rules than those of today let in ends with them.
    """

    home: "Replays"
    key: bytes
    hashed: bool
    truth: _Truth
    until: float
    noted: int = -1
    fields: bytes = b""
    scope: dict[str, Any] = field(default_factory=dict)
    line: str | None = None
    access: str = ""
    user: str = "-"
    remote: str | None = None


class Replays:
    """The answers that a worker keeps.

    Args:
        standing: finds witnesses.
        pulls: is told of pulls.
        guarded: whether requests are let in by who asks.
    """

    def __init__(self, standing: Standing, pulls: Pulls, *, guarded: bool) -> None:
        self._standing: Final = standing
        self._pulls: Final = pulls
        self._guarded: Final = guarded
        self._keyed: Final = blake2b(key=secrets.token_bytes(32))  # its copies cost less than it
        self._open: Final[dict[bytes, Replay]] = {}
        self._hashed: Final[dict[bytes, Replay]] = {}
        self._bytes = 0
        self._seen: Final[set[int]] = set()

    def find(self, head: bytes, address: str) -> Replay | None:
        """Return what to answer to `head`, if that is known and still true.

        Args:
            head: the bytes of a request's head.
            address: of the peer that sent it.
        """
        replay = self._open.get(head)
        if replay is None:
            if not self._hashed or len(head) > HEAD_LIMIT:
                return None
            replay = self._hashed.get(self._hash(head))
            if replay is None:
                return None
        if replay.until < time.monotonic():
            return None
        truth = replay.truth
        is_true = self._is_true(truth, address)
        if not is_true:
            if is_true is False:
                self._drop(replay)
            return None
        if replay.noted != self._pulls.turn and truth.pull is not None:
            self._pulls.note(*truth.pull)
            replay.noted = self._pulls.turn
        return replay

    async def offer(self, head: bytes, request: Request, response: Response) -> Replay | None:
        """Return what is to be kept of an answer once it is sent, if anything is.

        Args:
            head: the bytes of the request's head.
            request: a GET or HEAD of a manifest or a blob, let in.
            response: the answer, with status 200.
        """
        asker = request.asker
        if asker is not None and asker.principal.scope is not None:
            return None  # an API key, which may be revoked any moment
        names = request.field_names
        if len(head) > HEAD_LIMIT or request.has_query or not names <= _HARMLESS:
            return None
        hashed = b"authorization" in names
        key = self._hash(head) if hashed else head
        until = time.monotonic() + ADMITTED if self._guarded else inf
        known = (self._hashed if hashed else self._open).get(key)
        if known is not None:
            known.until = until
        elif self._is_repeated(key):
            truth = await self._find_truth(request, response)
            return None if truth is None else Replay(self, key, hashed, truth, until)
        return None

    def _is_true(self, truth: _Truth, address: str) -> bool | None:
        """Return whether an answer is still true; `None`: the ordinary way has to say."""
        if truth.promise is None:
            return truth.witness.stands()
        asker = client_name(truth.forwarded or address, truth.agent)
        return self._standing.is_kept(truth.promise, truth.witness, asker)

    def keep(self, replay: Replay) -> None:
        """Keep an answer that was sent, and is complete."""
        kept = self._hashed if replay.hashed else self._open
        if len(kept) >= MOST or self._bytes + len(replay.truth.body) > MOST_BYTES:
            self._open.clear()
            self._hashed.clear()
            self._bytes = 0
        self._drop(replay)  # another request with the same bytes may have been first
        kept[replay.key] = replay
        self._bytes += len(replay.truth.body)

    async def _find_truth(self, request: Request, response: Response) -> _Truth | None:
        """Return what an answer rests on, and says."""
        name = request.parameters["name"]
        if "digest" not in request.parameters:
            return await self._of_manifest(name, request, response)
        if request.method == "HEAD":
            return await self._of_promise(name, request, response)
        if response.stream is None:
            return None
        blob = response.stream[0]
        if blob.size > BODY_LIMIT:
            return None
        found = await self._standing.of_blob(name, blob.digest)
        return None if found is None else _Truth(*found)

    async def _of_promise(self, name: str, request: Request, response: Response) -> _Truth | None:
        digest = Digest.parse(request.parameters["digest"])
        size = int(dict(response.headers)[b"Content-Length"])
        witness = await self._standing.of_promise(name, digest, size)
        if witness is None:
            return None
        promise = name, digest
        return _Truth(witness, promise=promise, forwarded=request.forwarded, agent=request.agent)

    async def _of_manifest(self, name: str, request: Request, response: Response) -> _Truth | None:
        body, reference = response.body, request.parameters["reference"]
        if len(body) > BODY_LIMIT or not _declares_its_type(response):
            return None  # where the bytes don't say their type, a file does that may change
        digest = Digest.of(body)
        tag = None if ":" in reference else reference
        if tag is None and reference != str(digest):
            return None
        witness = await self._standing.of_manifest(name, digest, tag)
        if witness is None:
            return None
        return _Truth(witness, b"" if request.method == "HEAD" else body, (name, digest))

    def _is_repeated(self, key: bytes) -> bool:
        """Return whether `key` was seen before; from now on it was."""
        number = hash(key)
        if number in self._seen:
            return True
        if len(self._seen) >= SEEN:
            self._seen.clear()
        self._seen.add(number)
        return False

    def _hash(self, head: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(head)
        return keyed.digest()

    def _drop(self, replay: Replay) -> None:
        for kept in (self._open, self._hashed):
            dropped = kept.pop(replay.key, None)
            if dropped is not None:
                self._bytes -= len(dropped.truth.body)


def _declares_its_type(response: Response) -> bool:
    declared = grammar.declared_type(response.body).encode("latin-1", "replace")
    return (b"Content-Type", declared) in response.headers
