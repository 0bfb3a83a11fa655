"""The parent of the workers, with workers that misbehave. Each case is a program of its own."""

import subprocess
import sys
import textwrap
import time

from tests.serving.live_registry import DEADLINE


PRELUDE = """
    import os, signal, sys, time
    from dataclasses import dataclass
    from dockyard import telemetry
    from dockyard.server.workers import EXIT_UNUSABLE, Start, Workers

    @dataclass
    class Options:
        level: str = "info"
        formatter: str = "text"
        reportcaller: bool = False
        fields = {}

    telemetry.configure(Options())

    def run(serve, count=1, drain=0.0):
        sys.exit(Workers(serve, count, drain, lambda: print("closed", flush=True)).run())
"""


def program(text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=DEADLINE * 2,
        check=False,
    )


def test_the_service_gives_up_when_no_worker_ever_starts() -> None:
    done = program(
        """
        def serve(start: Start) -> None:
            raise OSError("no way")

        run(serve)
        """
    )
    assert done.returncode == 1
    assert done.stderr.count('msg="a worker failed"') == 5
    assert 'level=fatal msg="giving up: no worker starts"' in done.stderr
    assert done.stdout == "closed\n"


def test_the_service_ends_at_once_when_trying_again_is_useless() -> None:
    began = time.monotonic()
    done = program(
        """
        def serve(start: Start) -> None:
            if start.number == 1:
                sys.exit(EXIT_UNUSABLE)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            time.sleep(60)

        run(serve, count=2)
        """
    )
    assert done.returncode == 1
    assert time.monotonic() - began < 5


def test_a_worker_that_does_not_end_is_killed() -> None:
    done = program(
        """
        def serve(start: Start) -> None:
            start.ready()
            os.kill(os.getppid(), signal.SIGTERM)
            while True:  # signals stay blocked
                time.sleep(60)

        run(serve)
        """
    )
    assert done.returncode == 1
    assert 'msg="stopping" signal=SIGTERM' in done.stderr


def test_workers_that_die_young_are_replaced_ever_more_slowly() -> None:
    done = program(
        """
        def serve(start: Start) -> None:
            start.ready()
            print("born", start.announces, flush=True)
            if time.monotonic() < end:
                os.kill(os.getpid(), signal.SIGKILL)
            os.kill(os.getppid(), signal.SIGINT)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            time.sleep(60)

        end = time.monotonic() + 0.6
        run(serve)
        """
    )
    births = done.stdout.splitlines()
    assert births[0] == "born True"
    assert births[-1] == "closed"
    assert births[1:-1] == ["born False"] * (len(births) - 2)
    assert 3 <= len(births) - 1 <= 5  # after 0.1, 0.2 and 0.4 s
    assert 'how="killed by SIGKILL" pid=' in done.stderr
    assert "after=0.2s" in done.stderr
