#!/usr/bin/env python3
"""How does Dockyard compare with docker-registry 2.8.2 and distribution 3.1.1?

Every contestant serves the same small image from a tree of its own, on this machine, in this run,
in turns (A B C A B C). Load comes from ``wrk``. For each row: requests a second, CPU of the *whole*
server (all its processes) for each request, and the median of the rounds with its spread. A
contestant that is not installed is left out, and said to be.

    .venv/bin/python benchmarks/compare.py [--rounds 5] [--seconds 3] [--json FILE]
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx


ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
LARGE = 64 << 20
"""Bytes of the large blob: big enough that the request itself costs nothing beside it."""

CONFIG = """\
version: 0.1
storage:
  filesystem: {{rootdirectory: {root}}}
http:
  addr: 127.0.0.1:{port}
"""


@dataclass(slots=True)
class Contestant:
    """A server that runs, and what it serves.

    Attributes:
        name: as printed.
        port: where it listens.
        process: its first process.
        manifest: digest of the image's manifest.
        small: digest of a layer of 2 KB.
        large: digest of a layer of `LARGE` bytes.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    manifest: str = ""
    small: str = ""
    large: str = ""
    results: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def processes(self) -> list[int]:
        """Return the server's processes."""
        found, parents = [], [self.process.pid]
        while parents:
            pid = parents.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                parents += [int(child) for child in task.read_text().split()]
        return found

    def cpu(self) -> float:
        """Return the seconds of CPU the server has used, in all its processes."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def memory(self) -> float:
        """Return the server's proportional memory at this moment, in MB."""
        total = 0
        for pid in self.processes():
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(kb) for kb in re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE))
        return total / 1024


def programs() -> dict[str, Path]:
    """Return the contestants that are installed."""
    candidates = {
        "Dockyard": shutil.which("registry", path=str(Path(sys.executable).parent)),
        "docker-registry 2.8.2": shutil.which("docker-registry"),
        "distribution 3.1.1": shutil.which("registry-v3", path=str(ROOT / ".parts/bin")),
    }
    for name, program in candidates.items():
        if program is None:
            print(f"{name}: not installed, left out (scripts/install-parts --all)")
    return {name: Path(program) for name, program in candidates.items() if program}


@contextmanager
def serving(name: str, program: Path, folder: Path) -> Iterator[Contestant]:
    """Run a contestant; it is ended by its process when the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir()
    config = folder / "config.yml"
    config.write_text(CONFIG.format(root=folder / "data", port=port))
    environment = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", config], stdout=log, stderr=log, env=environment
        )
    contestant = Contestant(name, port, process)
    try:
        wait_for(contestant)
        yield contestant
    finally:
        process.terminate()
        process.wait(30)


def wait_for(contestant: Contestant) -> None:
    """Return once the contestant answers."""
    deadline = time.monotonic() + 20
    while True:
        try:
            httpx.get(f"{contestant.url}/v2/")
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def push_blob(client: httpx.Client, name: str, content: bytes) -> str:
    """Push a blob the way docker does; return its digest."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    location = client.post(f"/v2/{name}/blobs/uploads/").headers["location"]
    location = client.patch(location, content=content).headers["location"]
    response = client.put(f"{location}{'&' if '?' in location else '?'}digest={digest}")
    response.raise_for_status()
    return digest


def push_manifest(client: httpx.Client, name: str, tag: str, layers: list[tuple[str, int]]) -> str:
    """Push an image of layers that are there; return its manifest's digest."""
    config = push_blob(client, name, b"{}")
    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": 2,
            "digest": config,
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": size,
                "digest": digest,
            }
            for digest, size in layers
        ],
    }
    headers = {"Content-Type": MANIFEST_TYPE}
    url = f"/v2/{name}/manifests/{tag}"
    response = client.put(url, content=json.dumps(body), headers=headers)
    response.raise_for_status()
    return response.headers["docker-content-digest"]


def fill(contestant: Contestant) -> None:
    """Push what is then pulled."""
    with httpx.Client(base_url=contestant.url, timeout=120) as client:
        contestant.small = push_blob(client, "bench/image", os.urandom(2048))
        contestant.large = push_blob(client, "bench/image", os.urandom(1 << 20) * (LARGE >> 20))
        layers = [(contestant.small, 2048), (contestant.large, LARGE)]
        contestant.manifest = push_manifest(client, "bench/image", "v1", layers)


def load(contestant: Contestant, path: str, connections: int, seconds: int) -> tuple[float, float]:
    """Return requests a second, and microseconds of the server's CPU for each."""
    before = contestant.cpu()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "-H", f"Accept: {MANIFEST_TYPE}"]
    url = f"{contestant.url}/v2/bench/image/{path}"
    output = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        raise SystemExit(f"{contestant.name} refused {path}:\n{output}")
    requests = int(re.findall(r"(\d+) requests in", output)[0])
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", output)[0])
    return rate, (contestant.cpu() - before) / requests * 1e6


def push_many(contestant: Contestant, images: int) -> tuple[float, float]:
    """Return images of four 64 KB layers pushed a second, and microseconds of CPU for each."""
    before, start = contestant.cpu(), time.perf_counter()
    with httpx.Client(base_url=contestant.url, timeout=120) as client:
        for number in range(images):
            layers = [(push_blob(client, "bench/push", os.urandom(65536)), 65536) for _ in range(4)]
            push_manifest(client, "bench/push", f"t{number}", layers)
    elapsed = time.perf_counter() - start
    return images / elapsed, (contestant.cpu() - before) / images * 1e6


def rows(seconds: int) -> dict[str, Callable[[Contestant], tuple[float, float]]]:
    """Return what is measured, by name."""
    return {
        "manifest by tag, 16 connections": lambda c: load(c, "manifests/v1", 16, seconds),
        "manifest by digest, 16": lambda c: load(c, f"manifests/{c.manifest}", 16, seconds),
        "manifest by tag, 256": lambda c: load(c, "manifests/v1", 256, seconds),
        "blob of 2 KB, 16": lambda c: load(c, f"blobs/{c.small}", 16, seconds),
        f"blob of {LARGE >> 20} MB, 4": lambda c: load(c, f"blobs/{c.large}", 4, seconds),
        "push, 4 layers of 64 KB": lambda c: push_many(c, 10),
    }


def report(contestants: list[Contestant], names: list[str]) -> list[dict[str, object]]:
    """Print the table; return it for machines."""
    table = []
    for row in names:
        print(f"\n{row}")
        for contestant in contestants:
            rates, cpus = zip(*contestant.results[row], strict=True)
            rate, cpu = statistics.median(rates), statistics.median(cpus)
            spread = (max(rates) - min(rates)) / rate * 100
            figures = f"{rate:>10.1f}/s  ±{spread / 2:>3.0f} %  {cpu:>10.0f} us CPU"
            print(f"  {contestant.name:<22} {figures}")
            table.append({"row": row, "server": contestant.name, "rate": rate, "cpu_us": cpu})
    return table


def main() -> None:
    """Run every row on every contestant, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: install it (Debian: apt install wrk)")
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    measures = rows(options.seconds)
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        run(options, measures, Path(folder))


def run(
    options: argparse.Namespace,
    measures: dict[str, Callable[[Contestant], tuple[float, float]]],
    folder: Path,
) -> None:
    """Start the contestants one by one in each round, so that none works beside another."""
    found = programs()
    totals: dict[str, Contestant] = {}
    memory: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for name, program in found.items():
            with serving(name, program, folder / f"{number}-{program.name}") as contestant:
                fill(contestant)
                total = totals.setdefault(name, contestant)
                for row, measure in measures.items():
                    total.results.setdefault(row, []).append(measure(contestant))
                memory.setdefault(name, []).append(contestant.memory())
            shutil.rmtree(folder / f"{number}-{program.name}")
    table = report(list(totals.values()), list(measures))
    print("\nmemory after the load, shared pages counted in parts")
    for name, values in memory.items():
        print(f"  {name:<22} {statistics.median(values):>10.1f} MB")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
