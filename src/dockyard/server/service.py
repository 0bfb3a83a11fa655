"""The service as a whole: from settings to workers that serve, and to an exit status."""

import errno
import os
import socket
import tempfile
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

from dockyard.config import (
    ConfigurationError,
    FilesystemSettings,
    InMemorySettings,
    Loaded,
    Settings,
    load,
)
from dockyard.errors import RegistryError
from dockyard.http.messages import Receive, Scope, Send
from dockyard.http.request_log import Application, Known, RequestLog
from dockyard.server.build import Registry, build_app, is_guarded, open_journal
from dockyard.server.certificates import Certificates, ConfiguredCertificate
from dockyard.server.clear import HTTP2
from dockyard.server.debug import Debug
from dockyard.server.health import Checks, HealthGate, Verdict, checks_of
from dockyard.server.journal import JournalError
from dockyard.server.limits import ConnectionLimits
from dockyard.server.listeners import Listener, ListenError, listen_tcp, open_listeners
from dockyard.server.metrics import Metrics
from dockyard.server.release import release
from dockyard.server.rules import Rules
from dockyard.server.tls import TLSError
from dockyard.server.worker import Door, Service, run_worker, share_of
from dockyard.server.workers import (
    EXIT_UNUSABLE,
    Start,
    Workers,
    raise_descriptor_limit,
    share_memory,
)
from dockyard.telemetry import configure, logger
from dockyard.telemetry.lines import Lines


MOST_DEFAULT_WORKERS: Final = 4
"""Workers when the configuration does not say: one a core, but no more than feed a fast disk."""


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class StartError(Exception):
    """The service can't start; the message says why and what to do, in one line."""


ACCESS_LOG: Final = 1
"""The descriptor of the access log: standard output, as in distribution."""

DEBUG_LIMITS: Final = ConnectionLimits(connections=64)
"""Bounds of the debug listener: for a few who operate the registry and their monitoring."""


def serve(
    loaded: Loaded,
    environment: MutableMapping[str, str],
    limits: ConnectionLimits | None = None,
    announce: Callable[[Sequence[str]], None] | None = None,
) -> int:
    """Serve until told to stop; return the exit status.

    What prevents the start is one line in the log, and status 1: nothing is served then.

    Args:
        loaded: the configuration.
        environment: read for the sockets of systemd, which are taken out of it.
        limits: bounds of the connections of all workers together.
        announce: called once, with the addresses, when connections are accepted.
    """
    settings = loaded.settings
    identity = {"instance.id": str(uuid4()), "version": release()}
    configure(settings.log, constants=identity)
    for finding in loaded.findings:
        logger().warning(str(finding))
    try:
        count = count_workers(settings)
        prepare_storage(settings)
        prepare_access(settings)
        certificates = make_certificates(settings)
        http2 = make_http2(settings)
        places = _open_places(settings, environment)
    except (StartError, TLSError, ListenError) as error:
        logger().critical(str(error))
        return 1
    share = share_of(limits or ConnectionLimits(), count, raise_descriptor_limit())
    # What systemd passes is taken out of the environment; the configuration's variables stay.
    rules = Rules(loaded, partial(load, loaded.path, environment))
    composition = _Composition(rules, identity, count)
    drain_seconds = settings.http.draintimeout.total_seconds()

    def work(start: Start) -> None:
        main = Door(
            build=partial(composition.main, start.number),
            sockets=_sockets(places.main),
            limits=share,
            certificates=certificates,
            http2=http2,
            worker=start.number,
        )
        doors = [main]
        if start.number == 0:
            debug = _sockets(places.debug)
            doors.append(Door(build=composition.debug, sockets=debug, limits=DEBUG_LIMITS))
        run_worker(doors, drain_seconds, start.lifeline, partial(_begin, start, places, announce))

    share_memory()
    try:
        return Workers(work, count, drain_seconds, places.close, rules).run()
    finally:
        places.close()


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the service listens: for its clients, and for those who operate it."""

    main: Sequence[Listener]
    debug: Sequence[Listener]

    def close(self) -> None:
        for listener in (*self.main, *self.debug):
            listener.close()


def _open_places(settings: Settings, environment: MutableMapping[str, str]) -> _Places:
    main = open_listeners(settings.http, environment)
    address = settings.http.debug.addr
    try:
        return _Places(main, [listen_tcp(address)] if address else [])
    except ListenError:
        _Places(main, []).close()
        raise


def _sockets(listeners: Sequence[Listener]) -> list[socket.socket]:
    return [listener.socket for listener in listeners]


def _begin(start: Start, places: _Places, announce: Callable[[Sequence[str]], None] | None) -> None:
    """Tell the parent that a worker serves, and, for the first one, the log and whoever asked."""
    start.ready()
    if start.announces:
        for listener in places.debug:
            logger().info(f"debug server listening {listener.name}")
        for listener in places.main:
            logger().info(f"listening on {listener.name}")
        if announce is not None:
            announce([listener.name for listener in places.main])


class _Composition:
    """Makes what the workers serve. What they share is made with it, before they are forked."""

    def __init__(self, rules: Rules, identity: Mapping[str, str], workers: int) -> None:
        settings = rules.settings
        self._rules = rules
        self._settings = settings
        self._identity = identity
        self._verdict = Verdict()
        self._metrics = Metrics(workers, settings.http.prefix)

    def main(self, number: int) -> Service:
        """Return the registry; what prevents that, one line in the log, ends the service."""
        settings = self._rules.settings
        try:
            registry = build_app(settings, offered=self._rules.handover.take)
        except (RegistryError, ConfigurationError, OSError) as error:
            logger().critical(f"can't start: {error}")
            raise SystemExit(EXIT_UNUSABLE) from error
        application: Application = registry
        known: Known = registry.replays
        if checks_of(settings):
            application = gate = HealthGate(registry, self._verdict)
            known = gate.guarding(registry.replays)
        log = RequestLog(
            application,
            access=None if settings.log.accesslog.disabled else Lines(ACCESS_LOG),
            observer=self._metrics.counter(number) if settings.http.debug.addr else None,
            known=known,
        )
        return _Main(registry, log)

    def debug(self) -> Service:
        """Return the service behind the debug listener, which also runs the health checks."""
        prometheus = self._settings.http.debug.prometheus
        return Debug(
            Checks(checks_of(self._settings), self._verdict),
            self._metrics,
            prometheus.path if prometheus.enabled else None,
            self._identity,
        )


class _Main:
    """The registry with its wrappings: the life is the registry's, the requests go through all."""

    def __init__(self, registry: Registry, wrapped: RequestLog) -> None:
        self._wrapped = wrapped
        self.answer_at_once = wrapped.answer_at_once
        self.start = registry.start
        self.reload = registry.reload
        self.stop = registry.stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._wrapped(scope, receive, send)


def count_workers(settings: Settings) -> int:
    """Return how many workers to run: as configured, else one a core up to four."""
    asked = settings.http.workers
    if isinstance(settings.storage.driver, InMemorySettings):
        if asked is not None and asked > 1:
            logger().warning(
                f"http.workers: {asked} asked, 1 used: storage.inmemory can't be shared"
            )
        return 1
    return asked or min(MOST_DEFAULT_WORKERS, len(os.sched_getaffinity(0)))


def prepare_access(settings: Settings) -> None:
    """Make sure that the audit log can be written; load what tells who may come in, if anything.

    Loaded now, it is memory that the workers share.

    Raises:
        StartError: the log can't be written.
    """
    prepare_audit(settings)
    if is_guarded(settings):
        import dockyard.server.access  # noqa: F401, PLC0415 -- see above


def prepare_audit(settings: Settings) -> None:
    """Make sure that the audit log can be written, if there is to be one.

    Raises:
        StartError: it can't.
    """
    journal = open_journal(settings.audit)
    try:
        if journal is not None:
            journal.check()
    except JournalError as error:
        raise StartError(f"{error}; name another path, or give it to the user we run as") from error


def make_certificates(settings: Settings) -> Certificates | None:
    """Return the certificates to speak TLS with, or `None` for plain HTTP.

    Raises:
        TLSError: they can't be used.
    """
    tls, http2 = settings.http.tls, not settings.http.http2.disabled
    if not tls.enabled and not tls.letsencrypt.cachefile:
        return None
    # Now, so that the workers that are forked share the memory of what it needs; and not without
    # TLS, which starts sooner for it.
    import dockyard.server.secured  # noqa: F401, PLC0415 -- see above

    if tls.letsencrypt.cachefile:
        from dockyard.server.issued import IssuedCertificates  # noqa: PLC0415 -- see above

        return IssuedCertificates(tls, http2=http2)
    return ConfiguredCertificate(tls, http2=http2)


def make_http2(settings: Settings) -> HTTP2 | None:
    """Return what makes connections that speak HTTP/2, or `None` where it is not spoken.

    Made before the workers are forked, so that they share the library's memory.
    """
    secure = settings.http.tls.enabled
    if not (not settings.http.http2.disabled if secure else settings.http.h2c.enabled):
        return None
    from dockyard.server.http2.connection import HTTP2Connection  # noqa: PLC0415 -- see `HTTP2`

    return HTTP2Connection


def prepare_storage(settings: Settings) -> None:
    """Make sure that the storage's root is a directory that we may write into.

    Raises:
        StartError: it is not.
    """
    driver = settings.storage.driver
    if not isinstance(driver, FilesystemSettings):
        return
    root = Path(driver.rootdirectory)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not settings.storage.maintenance.readonly.enabled:
            with tempfile.TemporaryFile(dir=root):
                pass  # that it could be made is what we wanted to know
    except OSError as error:
        if error.errno in _FULL and root.is_dir():
            logger().warning(f"no room left in {root}: serving, but nothing can be pushed")
            return
        raise StartError(
            f"storage.filesystem.rootdirectory: can't write to {root}: "
            f"{(error.strerror or str(error)).lower()}"
        ) from error
