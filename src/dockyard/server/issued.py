"""Certificates that an ACME authority issues: kept in files, renewed in time, one for each host.

The directory is that of Go's autocert, which distribution uses: either can take it over from the
other. It is also how the workers, and replicas that share it, tell each other what they have.
"""

import asyncio
import fcntl
import os
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dockyard.clock import Clock, utc_now
from dockyard.config.http import TLSSettings
from dockyard.protocol.client_hello import ClientHello
from dockyard.server.acme import (
    CHALLENGE,
    LETS_ENCRYPT,
    AcmeClient,
    AcmeError,
    challenge_certificate,
    encoded_key,
)
from dockyard.server.certificates import WATCH_SECONDS, NoCertificateError, identity_of
from dockyard.server.files import write_privately
from dockyard.server.tls import TLSError, TLSPolicy, check_pair, is_valid, reason_of
from dockyard.telemetry import logger
from dockyard.threads import in_thread


RENEWAL: Final = timedelta(days=30)
"""How long before its end a certificate is renewed: what Let's Encrypt advises for its 90 days. Of
one that is valid for less, the last third."""

LOOK_SECONDS: Final = 3600.0
"""How often it is looked whether a certificate is due."""

FIRST_RETRY: Final = 300.0
LONGEST_RETRY: Final = 21600.0
"""Seconds until a failed issue is tried again: doubled from the first to the longest. Let's Encrypt
takes five failures an hour."""

PATIENCE_SECONDS: Final = 60.0
"""How often a process looks whether the one that renews is gone."""

ACCOUNT: Final = "acme_account+key"
LOCK: Final = ".dockyard-lock"
"""Names in the directory. The first is autocert's, as are ``HOST`` and ``HOST+token``."""

_OFFERED: Final = CHALLENGE.encode()


class IssuedCertificates:
    """The certificates of the hosts that ``http.tls.letsencrypt`` names.

    Args:
        settings: those of a listener that has its certificates from an authority.
        http2: whether HTTP/2 is offered.
        clock: tells when a certificate is due.

    Raises:
        TLSError: the directory can't be used.
    """

    reads_hello: Final = True

    def __init__(
        self, settings: TLSSettings, *, http2: bool = False, clock: Clock = utc_now
    ) -> None:
        issuing = settings.letsencrypt
        assert issuing.cachefile is not None
        self._folder: Final = Path(issuing.cachefile)
        self._hosts: Final = issuing.hosts
        self._directory: Final = issuing.directoryurl or LETS_ENCRYPT
        self._email: Final = issuing.email
        self._policy: Final = TLSPolicy.of(settings, http2=http2)
        self._clock: Final = clock
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._seen: dict[str, tuple[int, ...]] = {}
        self._logs = True
        self._tasks: list[asyncio.Task[None]] = []
        for warning in self._policy.warnings:
            logger().warning(warning)
        _prepare(self._folder)
        self._load()

    def context_for(self, hello: ClientHello | None) -> ssl.SSLContext:
        """Return the context for the host that the client asks for, or for the authority's look.

        Raises:
            NoCertificateError: it is none of ours, or its certificate is not here yet.
        """
        assert hello is not None
        name = hello.server_name
        if name not in self._hosts:
            raise NoCertificateError(f"{name!r} is not among http.tls.letsencrypt.hosts")
        if hello.protocols == (_OFFERED,):
            return self._challenge_context(name)
        context = self._contexts.get(name)
        if context is None:
            raise NoCertificateError(f"the certificate of {name} is not here yet")
        return context

    def _challenge_context(self, host: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols([CHALLENGE])
        try:
            context.load_cert_chain(self._token(host))
        except OSError as error:
            raise NoCertificateError(f"nobody asked for a certificate of {host}") from error
        return context

    async def start(self, worker: int) -> None:
        """Begin to watch the directory, and to renew unless another process does."""
        self._logs = worker == 0
        self._tasks = [
            asyncio.create_task(self._watch(), name="watching certificates"),
            asyncio.create_task(self._renew(), name="renewing certificates"),
        ]

    async def stop(self) -> None:
        """End both. An issue that is under way is given up; it leaves nothing half."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def reload(self) -> None:
        """Read all certificates of the directory anew."""
        self._seen.clear()
        await in_thread(self._load)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if any(
                identity_of(self._folder / host) != self._seen.get(host) for host in self._hosts
            ):
                await in_thread(self._load)

    def _load(self) -> None:
        """Take the certificates that are new in the directory; one that can't be used stays out."""
        for host in self._hosts:
            path = self._folder / host
            found = identity_of(path)
            if found == self._seen.get(host):
                continue
            self._seen[host] = found
            if not found:
                continue
            try:
                self._contexts[host] = self._policy.context(path, path)
                until = check_pair(path, path).not_valid_after_utc.isoformat()
            except TLSError as error:
                if self._logs:
                    logger().error("certificate not replaced: the old one stays", reason=str(error))
            else:
                if self._logs:
                    logger().info("certificate loaded", path=str(path), until=until)

    # Renewing, by one of all processes that share the directory.

    async def _renew(self) -> None:
        while True:
            descriptor = self._take_lock()
            if descriptor is not None:
                try:
                    await self._keep_renewing()
                finally:
                    os.close(descriptor)
            await asyncio.sleep(PATIENCE_SECONDS)

    def _take_lock(self) -> int | None:
        """Return what holds the lock until it is closed; `None` if another process has it."""
        try:
            descriptor = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            logger().error("no certificate", reason=f"{self._folder / LOCK}: {reason_of(error)}")
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    async def _keep_renewing(self) -> None:
        retry = FIRST_RETRY
        while True:
            failed = False
            for host in [host for host in self._hosts if self._is_due(host)]:
                failure = await _in_daemon(partial(self._issue, host))
                if failure is not None:
                    failed = True
                    logger().error("no certificate", host=host, reason=failure, again=f"{retry:g}s")
            await asyncio.sleep(retry if failed else LOOK_SECONDS)
            retry = min(retry * 2, LONGEST_RETRY) if failed else FIRST_RETRY

    def _is_due(self, host: str) -> bool:
        path = self._folder / host
        try:
            certificate = check_pair(path, path)
        except TLSError:
            return True
        end = certificate.not_valid_after_utc
        ahead = min(RENEWAL, (end - certificate.not_valid_before_utc) / 3)
        return not is_valid(certificate, self._clock()) or self._clock() >= end - ahead

    def _issue(self, host: str) -> str | None:
        """Get a certificate for `host` into the directory; return why that failed."""
        try:
            client = AcmeClient(self._directory, self._account_key(), self._email)
            key = ec.generate_private_key(ec.SECP256R1())
            chain = client.obtain(host, key, partial(self._publish, host))
            if x509.load_pem_x509_certificates(chain)[0].public_key() != key.public_key():
                return "the authority issued a certificate for another key"
            write_privately(self._folder / host, encoded_key(key) + chain)
        except OSError as error:
            return f"{error.filename or self._folder}: {reason_of(error)}"
        except (AcmeError, ValueError) as error:
            return str(error)
        finally:
            with suppress(OSError):  # a token that stays proves nothing to anybody
                self._token(host).unlink(missing_ok=True)
        logger().info("certificate issued", host=host)
        return None

    def _publish(self, host: str, proof: str) -> None:
        write_privately(self._token(host), challenge_certificate(host, proof, self._clock()))

    def _token(self, host: str) -> Path:
        return self._folder / f"{host}+token"

    def _account_key(self) -> ec.EllipticCurvePrivateKey:
        path = self._folder / ACCOUNT
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except FileNotFoundError:
            key = ec.generate_private_key(ec.SECP256R1())
            write_privately(path, encoded_key(key))
        except (ValueError, TypeError) as error:
            raise AcmeError(f"{path} is no key; remove it, and an account is made anew") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            raise AcmeError(f"{path} is no key on P-256; remove it, and an account is made anew")
        return key


def _prepare(folder: Path) -> None:
    """Make sure that `folder` is a directory, and that files can be made in it."""
    where = "http.tls.letsencrypt.cachefile"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600))
    except FileExistsError as error:
        raise TLSError(f"{where}: {folder} is a file; name a directory") from error
    except OSError as error:
        raise TLSError(f"{where}: can't write to {folder}: {reason_of(error)}") from error


async def _in_daemon(work: Callable[[], str | None]) -> str | None:
    """Return ``work()``, done in a thread that does not keep the process from ending.

    An authority may take minutes, and a worker that is told to stop has seconds. What the thread
    does to files it does at once or not at all, so that it may be given up at any time.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str | None] = loop.create_future()

    def settle(result: str | None) -> None:
        if not done.cancelled():
            done.set_result(result)

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 -- told by whoever waits; a thread has no caller
            result = f"unexpected: {error!r}"
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=run, name="issuing", daemon=True).start()
    return await done
