"""The parent of the workers: starts them, replaces them, ends them.

The parent serves nothing, so there is little in it that can fail. It waits for signals; its
children share the listening sockets, which it keeps open, so that no connection is lost while a
worker is replaced: those that wait in the socket's queue are accepted by another one.
"""

import gc
import mmap
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, Protocol

from dockyard.server.certificates import WATCH_SECONDS
from dockyard.telemetry import logger


SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
"""What the parent waits for."""

LONGEST_WAIT: Final = 3600.0
"""Seconds the parent sleeps when nothing is due; signals wake it."""

FIRST_BACKOFF: Final = 0.1
LONGEST_BACKOFF: Final = 10.0
"""Seconds before a worker that died young is replaced: doubled from the first to the longest."""

YOUNG_SECONDS: Final = 5.0
"""A worker that lived longer than this did its work, and is replaced at once."""

MOST_FAILED_STARTS: Final = 5
"""Workers that end before they accept connections, in a row, after which the service gives up."""

GRACE_SECONDS: Final = 3.0
"""How much longer than its drain time a worker may take to end before it is killed."""

EXIT_UNUSABLE: Final = 78
"""A worker's exit status when trying again is useless; it has logged why. Source: sysexits.h."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker is told when it is started.

    Attributes:
        number: which of the workers it is, from 0.
        announces: whether it should log where the service listens: one does, once.
        lifeline: a descriptor that reads as ended when the parent is gone.
        ready: to be called when connections are accepted.
    """

    number: int
    announces: bool
    lifeline: int
    ready: Callable[[], None]


class Watched(Protocol):
    """What the parent reads anew while the service runs."""

    def watch(self) -> bool:
        """Look whether it changed; return whether the workers should be told."""
        ...

    def reread(self) -> bool:
        """Read it, changed or not; return whether the workers should be told."""
        ...


class Workers:
    """The worker processes of a service.

    Args:
        serve: what a worker does. It returns when the worker should end. It is called with
            `SIGNALS` blocked and unblocks those it handles, so that none comes too early.
        count: how many there should be.
        drain_seconds: how long a worker told to stop may take for requests in flight.
        close: called when the service stops, to close the parent's listening sockets.
        watched: read anew on SIGHUP, and looked at every `WATCH_SECONDS`.
    """

    def __init__(
        self,
        serve: Callable[[Start], None],
        count: int,
        drain_seconds: float,
        close: Callable[[], None],
        watched: Watched | None = None,
    ) -> None:
        self._serve = serve
        self._count = count
        self._drain_seconds = drain_seconds
        self._close = close
        self._watched = watched
        self._looked = time.monotonic()
        self._numbers: dict[int, int] = {}  # of each process: which worker it is
        self._born: dict[int, float] = {}
        self._due: dict[int, float] = {}  # of each worker to start: when
        self._backoff = FIRST_BACKOFF
        self._failed_starts = 0
        self._ready = mmap.mmap(-1, count)  # shared: one byte a worker, 1 once it accepts
        self._lifeline, self._held = os.pipe()
        self._announced = False

    def run(self) -> int:
        """Keep the workers running until told to stop; return the exit status.

        SIGTERM and SIGINT end the service, letting requests in flight finish; a second one ends
        it at once. On SIGHUP the parent reads anew what is watched, then passes it on to the
        workers.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._due = dict.fromkeys(range(self._count), 0.0)
        while True:
            self._start_due()
            if self._failed_starts >= MOST_FAILED_STARTS:
                logger().critical("giving up: no worker starts")
                self._stop(at_once=True)
                return 1
            received = self._wait()
            if received == signal.SIGHUP:
                logger().info("SIGHUP: certificates and rules are read anew")
                self._look(asked=True)
            elif received in {signal.SIGTERM, signal.SIGINT}:
                logger().info("stopping", signal=signal.Signals(received).name)
                return self._stop()
            if self._reap() == EXIT_UNUSABLE:
                self._stop(at_once=True)
                return 1
            if time.monotonic() - self._looked >= WATCH_SECONDS:
                self._look()

    def _look(self, *, asked: bool = False) -> None:
        """Read anew what is watched, and tell the workers if they should know, or were meant."""
        news, self._looked = False, time.monotonic()
        if self._watched is not None:
            try:
                news = self._watched.reread() if asked else self._watched.watch()
            except Exception:  # noqa: BLE001 -- the service goes on with what it has
                logger().exception("reloading failed")
        if news or asked:
            self._signal(signal.SIGHUP)

    def _wait(self) -> int | None:
        now = time.monotonic()
        longest = LONGEST_WAIT if self._watched is None else WATCH_SECONDS
        pause = min(self._due.values(), default=now + longest) - now
        info = signal.sigtimedwait(SIGNALS, max(min(pause, longest), 0.0))
        return info.si_signo if info else None

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now]:
            del self._due[number]
            self._ready[number] = 0
            process = os.fork()
            if not process:
                self._become(number)
            self._numbers[process] = number
            self._born[process] = now
            self._announced = self._announced or number == 0

    def _become(self, number: int) -> NoReturn:
        """Be worker `number`, in the forked process."""
        status = 1
        try:
            os.close(self._held)
            ready = partial(self._ready.__setitem__, number, 1)
            announces = number == 0 and not self._announced
            self._serve(Start(number, announces, self._lifeline, ready))
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
        except BaseException as error:  # noqa: BLE001 -- whatever it is ends this process
            logger().critical("a worker failed", exc_info=error)
        finally:
            # Not `sys.exit`: what the parent registered to do at its end is not ours to do.
            os._exit(status)

    def _reap(self) -> int | None:
        """Take note of every worker that ended; return `EXIT_UNUSABLE` if one says so."""
        unusable = None
        while self._numbers:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                break
            number, lived = self._numbers.pop(process), time.monotonic() - self._born.pop(process)
            code = os.waitstatus_to_exitcode(status)
            if self._ready[number]:
                self._failed_starts = 0
            else:
                self._failed_starts += 1
                unusable = EXIT_UNUSABLE if code == EXIT_UNUSABLE else unusable
            if unusable is None:
                self._replace(number, process, code, lived)
        return unusable

    def _replace(self, number: int, process: int, code: int, lived: float) -> None:
        pause = 0.0
        if lived < YOUNG_SECONDS:
            pause, self._backoff = self._backoff, min(self._backoff * 2, LONGEST_BACKOFF)
        else:
            self._backoff = FIRST_BACKOFF
        self._due[number] = time.monotonic() + pause
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        logger().error("a worker ended and is replaced", pid=process, how=how, after=f"{pause:g}s")

    def _stop(self, *, at_once: bool = False) -> int:
        """End all workers; return 0 if all of them ended by themselves."""
        self._close()
        self._signal(signal.SIGQUIT if at_once else signal.SIGTERM)
        allowed = GRACE_SECONDS + (0.0 if at_once else self._drain_seconds)
        deadline = time.monotonic() + allowed
        status = 0
        while self._numbers:
            process, ended = os.waitpid(-1, os.WNOHANG)
            if process:
                del self._numbers[process]
                status = status or int(ended != 0)
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                self._signal(signal.SIGKILL)
                deadline, status = time.monotonic() + GRACE_SECONDS, 1
                continue
            info = signal.sigtimedwait(SIGNALS, left)
            if info and info.si_signo in {signal.SIGTERM, signal.SIGINT}:
                self._signal(signal.SIGQUIT)
                deadline = time.monotonic() + GRACE_SECONDS
        return status

    def _signal(self, number: int) -> None:
        for process in self._numbers:
            os.kill(process, number)  # it exists at least as a zombie: only we take them away


def share_memory() -> None:
    """Prepare the process for forking: what exists now stays shared with the workers.

    A collection in a worker would otherwise write into every object's header, copying its page.
    """
    gc.collect()
    gc.freeze()


def raise_descriptor_limit() -> int:
    """Allow as many open files as the system lets us, as Go programs do; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize
