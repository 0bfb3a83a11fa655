"""The keys of issuers elsewhere: where they come from, and how long they are good.

They are fetched when they are needed, in a thread of their own that nobody has to wait for at the
end, and kept. A token with a key that is not known makes them be fetched again, but not more often
than once in `RETRY_SECONDS`: so nobody can make us ask an issuer for each made-up key.
"""

import asyncio
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import structlog
from typing_extensions import override

from dockyard.auth.keys import Key, KeysInvalidError, TrustedKeys, import_jwk


DOCUMENT_LIMIT: Final = 1 << 20
"""Bytes of a document of an issuer, at most: hundreds of keys."""

SILENCE_SECONDS: Final = 5.0
"""How long an issuer may be silent within an answer."""

FETCH_SECONDS: Final = 10.0
"""How long an answer may take in all, and how long a login waits for keys."""

RETRY_SECONDS: Final = 60.0
"""From one fetch of an issuer's keys to the next, at least."""

FRESH_SECONDS: Final = 3600.0
"""The age at which keys are fetched again, while they are still used: one that the issuer took back
is good no longer than this."""

KEPT_SECONDS: Final = 86400.0
"""The age at which keys are given up that could not be fetched again."""

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_PIECE: Final = 64 << 10

Source: TypeAlias = Callable[[], Mapping[str, Key]]
"""Returns the keys of an issuer by their names. It blocks.

Raises:
    KeysInvalidError: there are none to be had.
"""


class IssuerKeys:
    """The keys of one issuer; one for each worker.

    Args:
        name: of the issuer, for the log.
        source: where they come from.
        clock: counts seconds.
    """

    def __init__(
        self, name: str, source: Source, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name: Final = name
        self._source: Final = source
        self._clock: Final = clock
        self._keys: Mapping[str, Key] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._done: asyncio.Event | None = None  # while they are fetched

    def load(self) -> None:
        """Get the keys now, and block: for a source that is a file.

        Raises:
            KeysInvalidError: there are none.
        """
        self._tried = self._clock()
        self._keys, self._fetched = self._source(), self._tried

    async def of(self, name: str) -> TrustedKeys:
        """Return the keys, fetched again if the key `name` is not among them, or they are old.

        Who asks waits only for a key that is not there, and not longer than `FETCH_SECONDS`. What
        can't be fetched is told in the log.
        """
        now = self._clock()
        if now - self._fetched >= KEPT_SECONDS:
            self._keys = {}
        stale = name not in self._keys or now - self._fetched >= FRESH_SECONDS
        if stale and self._done is None and now - self._tried >= RETRY_SECONDS:
            self._begin(now)
        if name not in self._keys and self._done is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), FETCH_SECONDS)
        return TrustedKeys(self._keys)

    def _begin(self, now: float) -> None:
        self._tried, self._done = now, asyncio.Event()
        loop = asyncio.get_running_loop()

        def fetch() -> None:
            found: Mapping[str, Key] | str
            try:
                found = self._source()
            except KeysInvalidError as error:
                found = str(error)
            except Exception as error:  # noqa: BLE001 -- a thread has no caller; told by who waits
                found = f"unexpected: {error!r}"
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._settle, found)

        threading.Thread(target=fetch, name="fetching keys", daemon=True).start()

    def _settle(self, found: Mapping[str, Key] | str) -> None:
        if isinstance(found, str):
            structlog.get_logger().warning(
                "keys of an issuer can't be fetched", issuer=self._name, reason=found
            )
        else:
            self._keys, self._fetched = found, self._clock()
        assert self._done is not None
        self._done.set()
        self._done = None


def of_file(path: Path) -> Mapping[str, Key]:
    """Return the keys in a file.

    Raises:
        KeysInvalidError: it can't be read, or is no set of keys.
    """
    try:
        with path.open("rb") as file:
            content = file.read(DOCUMENT_LIMIT + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise KeysInvalidError(f"can't read {path}: {reason}") from error
    return parse(content, str(path))


def of_url(url: str) -> Mapping[str, Key]:
    """Return the keys at a URL.

    Raises:
        KeysInvalidError: they can't be had.
    """
    return parse(fetch(url), url)


def of_issuer(issuer: str) -> Mapping[str, Key]:
    """Return the keys of an issuer that tells itself where they are.

    Source: OpenID Connect Discovery 1.0, section 4.

    Raises:
        KeysInvalidError: they can't be had.
    """
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    document = _object(fetch(url), url)
    if document.get("issuer") != issuer:
        raise KeysInvalidError(f"{url}: it is about another issuer")
    return of_url(str(document.get("jwks_uri")))


def parse(content: bytes, where: str) -> Mapping[str, Key]:
    """Return the public keys for signatures in a set of keys; others are passed over.

    Raises:
        KeysInvalidError: there are none in it.
    """
    if len(content) > DOCUMENT_LIMIT:
        raise KeysInvalidError(f"{where}: more than {DOCUMENT_LIMIT} bytes")
    documents = _object(content, where).get("keys")
    found: dict[str, Key] = {}
    for document in documents if isinstance(documents, list) else ():
        if not isinstance(document, dict) or document.get("use", "sig") != "sig":
            continue
        with suppress(ValueError):  # of a kind that we don't know
            key = import_jwk(document)
            name = document.get("kid") or key.thumbprint()
            if key.key_type != "oct" and isinstance(name, str):  # a secret is no public key
                found[name] = key
    if not found:
        raise KeysInvalidError(f"{where}: no key to verify signatures with")
    return found


def check_url(url: str) -> None:
    """Make sure that nobody on the way can change what comes from `url`.

    Raises:
        KeysInvalidError: it is neither HTTPS nor on this machine.
    """
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not (parts.scheme == "https" and parts.hostname) and not local:
        raise KeysInvalidError(f"not a URL of https: {url[:200]!r}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: who is asked is who the configuration says."""

    @override
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def fetch(url: str) -> bytes:
    """Return what is at `url`. It blocks, for a bounded time.

    Raises:
        KeysInvalidError: it can't be had.
    """
    try:
        check_url(url)
        until = time.monotonic() + FETCH_SECONDS
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context())
        opener = urllib.request.build_opener(_NoRedirect, trust)
        with opener.open(url, timeout=SILENCE_SECONDS) as answer:
            return _read(answer, until)
    except urllib.error.HTTPError as error:
        with error:
            raise KeysInvalidError(f"{url[:200]}: answered {error.code}") from error
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise KeysInvalidError(f"can't reach {url[:200]}: {reason}") from error
    except ValueError as error:  # no URL, or what is no HTTP
        raise KeysInvalidError(f"can't read the answer of {url[:200]}") from error


def _read(answer: Any, until: float) -> bytes:  # noqa: ANN401 -- urllib gives it no better type
    if answer.status != HTTPStatus.OK:
        raise KeysInvalidError(f"{answer.url[:200]}: answered {answer.status}")
    content = bytearray()
    while piece := answer.read1(_PIECE):
        content += piece
        if len(content) > DOCUMENT_LIMIT or time.monotonic() > until:
            raise KeysInvalidError(f"{answer.url[:200]}: too long, or too slow")
    return bytes(content)


def _object(content: bytes, where: str) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise KeysInvalidError(f"{where[:200]}: not JSON") from error
    if not isinstance(document, dict):
        raise KeysInvalidError(f"{where[:200]}: not a JSON object")
    return document
