"""Whether the registry is fit to serve, asked at intervals.

One worker runs the checks; the verdict is a byte of shared memory, which every worker looks at
before it serves a request. Source: distribution v3.1.1, health/health.go, health/checks/checks.go,
handlers/app.go (RegisterHealthChecks).
"""

import asyncio
import http.client
import mmap
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from dockyard.config import FilesystemSettings, Settings
from dockyard.config.health import HTTPCheckSettings
from dockyard.http.messages import Receive, Scope, Send
from dockyard.http.request_log import Application, Known
from dockyard.server.listeners import split_address
from dockyard.telemetry import FACTS, RequestFacts, logger
from dockyard.threads import in_thread


UNAVAILABLE: Final = (
    b'{"errors":[{"code":"UNAVAILABLE","message":"service unavailable",'
    b'"detail":"health check failed: please see /debug/health"}]}\n'
)

STORAGE_SECONDS: Final = 10.0
"""How long the storage may take to look at its root before that counts as a failure."""


class Probe(Protocol):
    """One look at something. It is bounded in time."""

    async def __call__(self) -> None:
        """Return if all is well; raise `UnfitError` or OSError if not."""
        ...


class UnfitError(Exception):
    """Something is not as it must be; the message says what."""


@dataclass(frozen=True, slots=True)
class Check:
    """A probe with its schedule.

    Attributes:
        name: what failures are reported under.
        interval: seconds from one probe to the next.
        threshold: failures in a row that make the registry unfit.
    """

    name: str
    probe: Probe
    interval: float
    threshold: int


class Verdict:
    """Whether the registry is fit, as all processes forked after its creation see it."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    @property
    def is_unfit(self) -> bool:
        """Whether requests must be refused."""
        return self._shared[0] == 1

    def set(self, *, unfit: bool) -> None:
        """Tell every process."""
        self._shared[0] = int(unfit)


class Checks:
    """Runs checks and keeps what they say."""

    def __init__(self, checks: Sequence[Check], verdict: Verdict) -> None:
        self._checks = checks
        self._verdict = verdict
        self._failures: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def failures(self) -> Mapping[str, str]:
        """What is wrong, by the check's name; empty if the registry is fit."""
        return dict(sorted(self._failures.items()))

    def start(self) -> None:
        """Begin to check, each check by itself."""
        self._verdict.set(unfit=False)  # what the worker before us knew is out of date
        self._tasks = [asyncio.create_task(self._repeat(check)) for check in self._checks]

    async def stop(self) -> None:
        """End all checks and wait for them."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _repeat(self, check: Check) -> None:
        failed = 0
        while True:
            failure = await _failure_of(check.probe)
            failed = failed + 1 if failure else 0
            if failure and failed >= check.threshold:
                self._note(check.name, failure)
            elif not failure:
                self._note(check.name, None)
            await asyncio.sleep(check.interval)

    def _note(self, name: str, failure: str | None) -> None:
        before = name in self._failures
        if failure is not None:
            self._failures[name] = failure
        else:
            self._failures.pop(name, None)
        if before != (failure is not None):
            tell = logger().error if failure else logger().info
            tell("health check failed" if failure else "health check passes", check=name)
        self._verdict.set(unfit=bool(self._failures))


async def _failure_of(probe: Probe) -> str | None:
    try:
        await probe()
    except (UnfitError, OSError, http.client.HTTPException, ssl.SSLError) as error:
        return str(error) or type(error).__name__
    return None


class HealthGate:
    """Wraps an application: while the registry is unfit, every request is answered 503."""

    def __init__(self, application: Application, verdict: Verdict) -> None:
        self._application = application
        self._verdict = verdict

    def guarding(self, known: Known) -> Known:
        """Return `known`, which knows of no answers while the registry is unfit."""
        return lambda: None if self._verdict.is_unfit else known()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if not self._verdict.is_unfit:
            await self._application(scope, receive, send)
            return
        facts: RequestFacts = scope[FACTS]
        facts.code, facts.message = "UNAVAILABLE", "service unavailable"
        facts.detail = "health check failed"
        headers = [
            (b"Content-Type", b"application/json"),
            (b"Docker-Distribution-Api-Version", b"registry/2.0"),
            (b"Content-Length", b"%d" % len(UNAVAILABLE)),
        ]
        status = HTTPStatus.SERVICE_UNAVAILABLE
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": UNAVAILABLE})


def checks_of(settings: Settings) -> Sequence[Check]:
    """Return the checks that the configuration asks for."""
    health = settings.health
    checks: list[Check] = []
    if health.storagedriver.enabled:
        driver = settings.storage.driver
        root = Path(driver.rootdirectory) if isinstance(driver, FilesystemSettings) else None
        name = "storagedriver_filesystem" if root else "storagedriver_inmemory"
        every, threshold = health.storagedriver.interval, health.storagedriver.threshold
        checks.append(Check(name, storage_probe(root), every.total_seconds(), threshold))
    checks += [
        # distribution has a threshold here and does not use it.
        Check(each.file, file_probe(Path(each.file)), each.interval.total_seconds(), 1)
        for each in health.file
    ]
    checks += [
        Check(each.uri, http_probe(each), each.interval.total_seconds(), each.threshold)
        for each in health.http
    ]
    checks += [
        Check(
            each.addr,
            tcp_probe(each.addr, each.timeout.total_seconds()),
            each.interval.total_seconds(),
            each.threshold,
        )
        for each in health.tcp
    ]
    return checks


def storage_probe(root: Path | None) -> Probe:
    """Return a probe that fails if the storage's root can't be looked at. Memory always can."""

    async def probe() -> None:
        if root is not None:
            # Not waited for beyond the limit: a hanging network file system keeps its thread.
            looking = asyncio.ensure_future(in_thread(os.listdir, root))
            done, _ = await asyncio.wait([looking], timeout=STORAGE_SECONDS)
            if not done:
                raise UnfitError(f"{root} does not answer")
            looking.result()

    return probe


def file_probe(path: Path) -> Probe:
    """Return a probe that fails if there is something at `path`."""

    async def probe() -> None:
        if path.exists():
            raise UnfitError("file exists")

    return probe


def tcp_probe(address: str, seconds: float) -> Probe:
    """Return a probe that fails if nothing accepts a connection at `address`."""
    host, port = split_address(address)

    async def probe() -> None:
        try:
            async with asyncio.timeout(seconds):
                _, writer = await asyncio.open_connection(host or "localhost", port)
        except TimeoutError:
            raise UnfitError(f"connection to {address} failed: timed out") from None
        except OSError as error:
            raise UnfitError(f"connection to {address} failed: {error.strerror}") from error
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    return probe


def http_probe(settings: HTTPCheckSettings) -> Probe:
    """Return a probe that fails unless a HEAD request is answered with the status expected."""
    place = urlsplit(settings.uri)
    target = f"{place.path or '/'}{'?' + place.query if place.query else ''}"

    def ask() -> int:
        kind: Callable[..., http.client.HTTPConnection] = (
            http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(place.hostname, place.port, timeout=settings.timeout.total_seconds())
        try:
            connection.putrequest("HEAD", target)
            for name, values in settings.headers.items():
                for value in values:
                    connection.putheader(name, value.get_secret_value())
            connection.endheaders()
            return connection.getresponse().status
        finally:
            connection.close()

    async def probe() -> None:
        try:
            status = await in_thread(ask)
        except OSError as error:
            raise UnfitError(f"error while checking: {settings.uri}: {error}") from error
        if status != settings.statuscode:
            raise UnfitError(
                f"downstream service returned unexpected status: {status}, "
                f"expected: {settings.statuscode}"
            )

    return probe
