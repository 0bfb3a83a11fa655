"""The certificate that the configuration names, and what becomes of it when its files change."""

import asyncio
import os
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from dockyard.clock import Clock, utc_now
from dockyard.config.http import TLSSettings
from dockyard.protocol.client_hello import ClientHello
from dockyard.server.tls import TLSError, TLSPolicy, check_pair, is_valid
from dockyard.telemetry import logger
from dockyard.threads import in_thread


WATCH_SECONDS: Final = 2.0
"""How often a worker looks whether the files changed. A change counts once two looks saw the same,
so that a certificate is not read without its key while both are being replaced."""


class NoCertificateError(Exception):
    """There is no certificate for the name that a client asks for."""


class Certificates(Protocol):
    """Under which names a listener presents itself.

    Made before the workers are forked; each of them then has its own, with a life of its own.
    """

    @property
    def reads_hello(self) -> bool:
        """Whether `context_for` wants to know what the client said first."""
        ...

    def context_for(self, hello: ClientHello | None) -> ssl.SSLContext:
        """Return the context for a handshake that begins now.

        Raises:
            NoCertificateError: there is none for the name that the client asks for.
        """
        ...

    async def start(self, worker: int) -> None:
        """Begin to look after the certificates, as worker number `worker`; the first one logs."""
        ...

    async def stop(self) -> None:
        """End that."""
        ...

    async def reload(self) -> None:
        """Read the files anew. What can't be used leaves things as they are, and a log line."""
        ...


class ConfiguredCertificate:
    """The certificate in the files that ``http.tls`` names.

    Args:
        settings: those of a listener that has a certificate.
        http2: whether HTTP/2 is offered.
        clock: tells whether a certificate has ended.

    Raises:
        TLSError: the files can't be used.
    """

    reads_hello: Final = False

    def __init__(
        self, settings: TLSSettings, *, http2: bool = False, clock: Clock = utc_now
    ) -> None:
        assert settings.certificate is not None
        assert settings.key is not None
        self._certificate: Final = Path(settings.certificate)
        self._key: Final = Path(settings.key)
        self._policy: Final = TLSPolicy.of(settings, http2=http2)
        self._files: Final = (self._certificate, self._key, *map(Path, settings.clientcas))
        self._clock: Final = clock
        self._logs = True
        self._watching: asyncio.Task[None] | None = None
        self._seen = self._look()
        for warning in self._policy.warnings:
            logger().warning(warning)
        self._context = self._load()

    def context_for(self, _hello: ClientHello | None) -> ssl.SSLContext:
        """Return the context of the present certificate."""
        return self._context

    async def start(self, worker: int) -> None:
        """Begin to watch the files."""
        self._logs = worker == 0
        self._watching = asyncio.create_task(self._watch(), name="watching the certificate")

    async def stop(self) -> None:
        """End watching."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    async def reload(self) -> None:
        """Read the files anew, for handshakes that begin from now on."""
        self._seen = self._look()
        try:
            self._context = await in_thread(self._load)
        except TLSError as error:
            if self._logs:
                logger().error("certificate not replaced: the old one stays", reason=str(error))

    def _load(self) -> ssl.SSLContext:
        context = self._policy.context(self._certificate, self._key)
        leaf = check_pair(self._certificate, self._key)
        if self._logs:
            until = leaf.not_valid_after_utc.isoformat()
            logger().info("certificate loaded", path=str(self._certificate), until=until)
            if not is_valid(leaf, self._clock()):
                logger().warning("the certificate is not valid now: renew it", until=until)
        return context

    async def _watch(self) -> None:
        before = self._seen
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = self._look()
            if now != self._seen and now == before:
                await self.reload()
            before = now

    def _look(self) -> tuple[object, ...]:
        """Return what changes when a file does: it is another one, or was written to."""
        return tuple(map(identity_of, self._files))


def identity_of(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written to; empty if it is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 -- through links: those of certbot and kubernetes move
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
