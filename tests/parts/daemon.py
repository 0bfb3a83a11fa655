"""A long-running program started by a test: its log in a file, stopped by its process id."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.parts.programs import environment


START_SECONDS: Final = 30.0
"""How long a program may take until it answers: 1 s is usual, a busy machine takes longer."""

STOP_SECONDS: Final = 20.0
"""How long a program may take to end after SIGTERM before it is killed."""

POLL_SECONDS: Final = 0.02
"""Pause between two looks at a condition."""

LOG_TAIL: Final = 4000
"""Characters of the log that a failure shows."""


def wait_for(condition: Callable[[], bool], what: str, *, seconds: float = START_SECONDS) -> None:
    """Return as soon as `condition` holds.

    Raises:
        TimeoutError: it still did not hold after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def accepts(port: int) -> bool:
    """Say whether something accepts connections on `port` of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Daemon:
    """One started program. Use it as a context manager, so that it ends when the test does.

    It is the leader of a process group of its own; `stop` ends the program by its process id and
    then whatever is left of the group, so that nothing outlives the test, a killed program's
    workers included.
    """

    def __init__(
        self, command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self._command = [str(word) for word in command]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(env),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the program."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._process.poll()

    def wait_until(self, condition: Callable[[], bool], *, seconds: float = START_SECONDS) -> Self:
        """Return this daemon as soon as `condition` holds.

        Raises:
            AssertionError: the program ended first, or `seconds` passed; the message shows its log.
        """

        def held_or_dead() -> bool:
            return self.status is not None or condition()

        with contextlib.suppress(TimeoutError):  # told below, with the log
            wait_for(held_or_dead, self._command[0], seconds=seconds)
            if self.status is None:
                return self
        state = "did not answer" if self.status is None else f"ended with status {self.status}"
        self.stop()
        raise AssertionError(f"{' '.join(self._command)} {state}\n{self.tail()}")

    def tail(self) -> str:
        """Return the end of the program's log."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program itself, not to its children."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Return the exit status once the program has ended."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End the program and its children at once, as a power cut would."""
        self._kill_group()
        self._process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """End the program: SIGTERM, and SIGKILL to what is left."""
        self.send(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass  # killed with the rest of its group, next
        finally:
            self._kill_group()
            self._process.wait(STOP_SECONDS)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # everybody has ended
            os.killpg(self._process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
