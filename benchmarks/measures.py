"""How a row is measured: load by wrk or by our own compiled client, and what the server used."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import httpx

from benchmarks.content import Content
from benchmarks.contestants import PARTS, ROOT, Meter, Server
from benchmarks.tree import TYPES


LOAD: Final = PARTS / "load"
SOURCES: Final = ROOT / "benchmarks/load"
HELD: Final = 2.0
"""Seconds that connections stay while the memory is looked at."""

WARM_RUNS: Final = 8
"""How often a load that does not count is tried."""

AT_WORK: Final = 120.0
"""Seconds that a load may take beyond the time it was given."""


class LoadError(Exception):
    """A load did not do its work; the message says which, and what it said."""


class Unit(Enum):
    """What work is counted in."""

    REQUEST = "request"
    GIGABYTE = "GB"
    IMAGE = "image"
    START = "start"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one measure found; what it does not know is `None`.

    Attributes:
        rate: units of work a second.
        cpu: seconds of the whole server's CPU for a unit of work.
        p50: seconds that a request, or an image, took at the median.
        p99: the same for all but one of a hundred.
        p999: the same for all but one of a thousand.
        memory: most memory of the whole server, in bytes.
        each: bytes of memory for each connection.
        seconds: until the first 200.
        errors: what was not answered as it should be.
    """

    rate: float | None = None
    cpu: float | None = None
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    memory: float | None = None
    each: float | None = None
    seconds: float | None = None
    errors: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One server, and what to do with it.

    Attributes:
        server: it runs.
        content: what it serves.
        seconds: how long a load lasts.
    """

    server: Server
    content: Content
    seconds: float

    def path(self, pattern: str) -> str:
        """Return a path with the names of the content filled in."""
        return pattern.format_map(self.content.digests)


Measure = Callable[[Job], Measurement | None]
"""What measures a row; `None` says that the server does not offer it."""


def build_load() -> None:
    """Build the client, if its sources are newer than it.

    Raises:
        SystemExit: it can't be built.
    """
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    if LOAD.exists() and LOAD.stat().st_mtime > newest:
        return
    PARTS.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-o", str(LOAD), "."]
    if subprocess.run(command, cwd=SOURCES, check=False).returncode:
        raise SystemExit("the load can't be built: it needs go 1.21 or later")


def wrk(
    path: str,
    connections: int,
    *,
    unit: Unit = Unit.REQUEST,
    header: str = "",
    times: float = 1,
) -> Measure:
    """Return a measure that gets a path by wrk; it lasts `times` as long as others."""

    def measure(job: Job) -> Measurement:
        seconds = job.seconds * times
        fields = [f"Accept: {TYPES[0]['manifest']}", *([job.path(header)] if header else [])]
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}", "--timeout", "30s"]
        command += ["-s", str(SOURCES / "wrk.lua")]
        command += [word for text in fields for word in ("-H", text)]
        command.append(f"{job.server.scheme}://{job.server.address}{job.path(path)}")
        with Meter(job.server) as meter:
            found = run(command, seconds)
        return told(found, meter, unit)

    return measure


def after(warming: Measure, counted: Measure) -> Measure:
    """Return a measure that comes after another one, which does not count.

    For what a worker does at its first request: each should have done it. What is refused (too many
    logins at once are) is tried again.
    """

    def measure(job: Job) -> Measurement | None:
        for _ in range(WARM_RUNS):
            found = warming(job)
            if found is None or not found.errors:
                break
        return counted(job)

    return measure


def once(path: str) -> Measure:
    """Return a measure of the first request for a path, just after the start."""

    def measure(job: Job) -> Measurement:
        began = time.perf_counter()
        url = f"{job.server.scheme}://{job.server.address}{job.path(path)}"
        httpx.get(url, timeout=AT_WORK).raise_for_status()
        return Measurement(seconds=time.perf_counter() - began)

    return measure


def load(command: str, unit: Unit, *, times: float = 1, **flags: object) -> Measure:
    """Return a measure by our own client; it lasts `times` as long as others."""

    def measure(job: Job) -> Measurement | None:
        seconds = job.seconds * times
        with Meter(job.server) as meter:
            found = run([*client(job, command, flags), f"-seconds={seconds}"], seconds)
        if not found["count"] and found.get("first_error", "").startswith("no HTTP/2"):
            return None
        if found["first_error"]:
            print(f"    {job.server.name}: {found['first_error']}", flush=True)
        return told(found, meter, unit)

    return measure


def client(job: Job, command: str, flags: dict[str, object]) -> list[str]:
    """Return the command line of our own client."""
    words = [f"-{name}={job.path(str(value))}" for name, value in flags.items()]
    tls = ["-tls"] if job.server.scheme == "https" else []
    return [str(LOAD), command, f"-address={job.server.address}", *tls, *words]


def run(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """Run a load; return the JSON it prints.

    Raises:
        LoadError: it failed, took too long, or printed none.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + AT_WORK
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{' '.join(command)}: not within {error.timeout:.0f} s") from error
    lines = [line.removeprefix("JSON") for line in done.stdout.splitlines()]
    found = [line for line in lines if line.startswith("{")]
    if not found:
        raise LoadError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads(found[-1])
    return result


def told(found: dict[str, Any], meter: Meter, unit: Unit) -> Measurement:
    """Return what a load and the meter say together."""
    work = found["bytes"] / 1e9 if unit is Unit.GIGABYTE else float(found["count"])
    latencies = {name: found[name] for name in ("p50", "p99", "p999") if found["count"]}
    return Measurement(
        rate=work / found["seconds"],
        cpu=meter.cpu / work if work else None,
        memory=meter.peak,
        errors=found["errors"],
        **latencies,
    )


def hold(kind: str, connections: int, *, seconds: float = HELD, **flags: object) -> Measure:
    """Return a measure of the memory that each of many connections takes.

    The server has just been started, so that nothing else has left its traces.
    """

    def measure(job: Job) -> Measurement:
        settle(job.server)
        before = job.server.memory()
        words = client(job, "hold", flags | {"kind": kind, "connections": connections})
        with Meter(job.server) as meter:
            holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                assert holder.stdout is not None
                found = json.loads(holder.stdout.readline())
                time.sleep(seconds)
            finally:
                holder.communicate()
        if found["first_error"]:
            print(f"    {job.server.name}: {found['first_error']}", flush=True)
        return Measurement(
            memory=meter.peak,
            each=max(0, meter.peak - before) / connections,
            errors=found["errors"],
        )

    return measure


def settle(server: Server) -> None:
    """Let every worker answer something, so that what it loads late is loaded."""
    command = ["wrk", "-t1", "-c16", "-d1", f"{server.scheme}://{server.address}/v2/"]
    subprocess.run(command, capture_output=True, check=True)
    time.sleep(HELD / 2)


def at_rest(job: Job) -> Measurement:
    """Measure the memory of a server that has answered a little."""
    settle(job.server)
    return Measurement(memory=job.server.memory())


def starting(job: Job) -> Measurement:
    """Tell how long the server, which has just been started, took for that."""
    return Measurement(seconds=job.server.started, cpu=job.server.cpu(), memory=job.server.memory())
