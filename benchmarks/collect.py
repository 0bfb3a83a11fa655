#!/usr/bin/env python3
"""How long does collecting a large registry take, beside docker-registry and distribution?

One tree is made (see ``tree.py``), and in each round each contestant gets a copy of it and collects
it, in turns (A B C A B C), with and without ``-m``. Each copy is made by ``cp -a`` just before and
synced, so that every contestant finds the tree in the page cache and nothing waiting to be written.
For each: wall time, user and system CPU, peak memory of the process; and then the time of a
``sync``, since only Dockyard's deletions are on the disk when it ends. The blobs that remain are
compared with those the maker of the tree knows to be needed.

Wall time means little on a machine that does other things too, so the CPU that others used
meanwhile is told as well: where it is a large part of the wall time, measure again.

Dockyard's grace period is none: the tree has just been made, and the others know of no such thing.
docker-registry 2.8.2 is left out with ``-m``: it deletes the platforms of tagged images.

    .venv/bin/python benchmarks/collect.py [--rounds 3] [--folder DIRECTORY] [--json FILE]
                                           [--repositories 2000] [--manifests 20000]
                                           [--blobs 100000]
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final


ROOT: Final = Path(__file__).resolve().parent.parent
OURS: Final = "Dockyard"
V2: Final = "docker-registry 2.8.2"
V3: Final = "distribution 3.1.1"
MODES: Final = ("", "-m")

CONFIG: Final = """\
version: 0.1
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
  maintenance: {{gc: {{grace: 0s}}}}
http:
  addr: 127.0.0.1:5000
"""

LAUNCHER: Final = """\
import json, os, sys, time
out, error, *command = sys.argv[1:]
start = time.perf_counter()
pid = os.posix_spawn(command[0], command, os.environ, file_actions=[
    (os.POSIX_SPAWN_OPEN, 1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
    (os.POSIX_SPAWN_OPEN, 2, error, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)])
_, status, usage = os.wait4(pid, 0)
print(json.dumps({
    "status": os.waitstatus_to_exitcode(status), "wall": time.perf_counter() - start,
    "user": usage.ru_utime, "system": usage.ru_stime, "memory": usage.ru_maxrss / 1024}))
"""
"""Runs a command and tells what it used. A process of its own: Linux counts the memory of whoever
starts a program as the program's, and this script's may be more than a contestant's."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one collection used.

    Attributes:
        contestant: who collected.
        mode: ``-m`` or nothing.
        wall: seconds until it ended.
        user: seconds of CPU in the program.
        system: seconds of CPU in the kernel for it.
        memory: most memory at any time, in MB.
        others: seconds of CPU that the rest of the machine used meanwhile.
        sync: seconds until what it did was on the disk, after it ended.
        missing: blobs that are needed and gone.
        left: blobs that are not needed and still there.
    """

    contestant: str
    mode: str
    wall: float
    user: float
    system: float
    memory: float
    others: float
    sync: float
    missing: int
    left: int

    @property
    def cpu(self) -> float:
        """Seconds of CPU, in the program and in the kernel for it."""
        return self.user + self.system


def programs() -> dict[str, str]:
    """Return the contestants that are installed."""
    candidates = {
        OURS: shutil.which("registry", path=str(Path(sys.executable).parent)),
        V2: shutil.which("docker-registry"),
        V3: shutil.which("registry-v3", path=str(ROOT / ".parts/bin")),
    }
    for name, program in candidates.items():
        if program is None:
            print(f"{name}: not installed, left out (scripts/install-parts --all)")
    return {name: program for name, program in candidates.items() if program}


def version(program: str) -> str:
    """Return what a contestant calls itself."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def processor() -> str:
    """Return the name of the machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "?")


def file_system(folder: Path) -> str:
    """Return the type of the file system that `folder` is on."""
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def grow(folder: Path, options: argparse.Namespace) -> tuple[Path, dict[str, set[str]]]:
    """Make the tree; return it and, for each mode, the blobs that a collection has to leave."""
    command: list[str | Path] = [sys.executable, Path(__file__).with_name("tree.py")]
    command += [folder / "tree", "--expect", folder / "expected.json"]
    for name in ("repositories", "manifests", "blobs", "seed"):
        command += [f"--{name}", str(getattr(options, name))]
    subprocess.run(command, check=True)
    expected = json.loads((folder / "expected.json").read_text())
    return folder / "tree", {mode: set(expected[mode]) for mode in MODES}


def busy() -> float:
    """Return the seconds of CPU that the machine has used, for whomever."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _waiting, interrupts, softly, *_ = map(int, fields)
    return (user + nice + system + interrupts + softly) / os.sysconf("SC_CLK_TCK")


def collect(folder: Path, program: str, mode: str) -> dict[str, float]:
    """Collect the tree in `folder`; return what that used.

    Raises:
        SystemExit: the contestant failed; the message shows the end of its log.
    """
    config, out, error = folder / "config.yml", folder / "out", folder / "error"
    config.write_text(CONFIG.format(root=folder / "tree"))
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(out), str(error)]
    command = [program, "garbage-collect", *([mode] if mode else []), str(config)]
    environment = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
    before = busy()
    done = subprocess.run([*launcher, *command], capture_output=True, check=True, env=environment)
    used: dict[str, float] = json.loads(done.stdout)
    used["others"] = max(0.0, busy() - before - used["user"] - used["system"])
    if used.pop("status"):
        raise SystemExit(f"{program} failed:\n{error.read_text()[-2000:]}")
    start = time.perf_counter()
    os.sync()
    return used | {"sync": time.perf_counter() - start}


def remaining(tree: Path) -> set[str]:
    """Return the digests of the blobs in a tree."""
    blobs = (tree / "docker/registry/v2/blobs").glob("*/*/*/data")
    return {f"{path.parts[-4]}:{path.parts[-2]}" for path in blobs}


def measure(
    folder: Path, tree: Path, contestant: tuple[str, str], mode: str, expected: set[str]
) -> Run:
    """Copy the tree, let a contestant collect the copy, look at what is left, and remove it."""
    name, program = contestant
    place = folder / "copy"
    place.mkdir()
    subprocess.run(["cp", "-a", tree, place / "tree"], check=True)
    os.sync()
    used = collect(place, program, mode)
    found = remaining(place / "tree")
    shutil.rmtree(place)
    os.sync()
    run = Run(name, mode, **used, missing=len(expected - found), left=len(found - expected))
    figures = f"{run.wall:6.2f} s  CPU {run.cpu:6.2f} s, of others {run.others:6.2f} s"
    print(f"  {name:<22} {mode:<3} {figures}  {run.memory:4.0f} MB", file=sys.stderr)
    return run


def spread(values: Sequence[float], digits: int) -> str:
    """Return the median, and half of what lies between the least and the most."""
    half = (max(values) - min(values)) / 2
    return f"{statistics.median(values):.{digits}f} ± {half:.{digits}f}"


def table(runs: Sequence[Run]) -> list[str]:
    """Return the lines of a Markdown table: a row for each contestant and mode.

    "To it" is Dockyard's figure divided by the contestant's.
    """
    lines = [
        "| | wall s | user s | system s | MB | others s | sync s | to it: wall, CPU | blobs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: MODES.index(run.mode)):
        groups.setdefault((run.mode, run.contestant), []).append(run)
    walls = median_of(groups, "wall")
    cpus = median_of(groups, "cpu")
    for (mode, name), group in groups.items():
        ours = (mode, OURS)
        cells = [
            f"{name} {mode}".rstrip(),
            spread([run.wall for run in group], 2),
            spread([run.user for run in group], 2),
            spread([run.system for run in group], 2),
            spread([run.memory for run in group], 0),
            spread([run.others for run in group], 2),
            spread([run.sync for run in group], 2),
            f"{walls[ours] / walls[mode, name]:.2f}, {cpus[ours] / cpus[mode, name]:.2f}"
            if ours in walls and name != OURS
            else "",
            verdict(group),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def median_of(
    groups: Mapping[tuple[str, str], Sequence[Run]], figure: str
) -> dict[tuple[str, str], float]:
    """Return the median of a figure, for each mode and contestant."""
    return {
        key: statistics.median(getattr(run, figure) for run in group)
        for key, group in groups.items()
    }


def verdict(runs: Sequence[Run]) -> str:
    """Return whether exactly the needed blobs remained, in the worst of the rounds."""
    missing, left = max(run.missing for run in runs), max(run.left for run in runs)
    return f"{missing} lost, {left} left over" if missing or left else "as expected"


def machine(folder: Path, found: Mapping[str, str]) -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "machine": f"{platform.platform()}, {os.cpu_count()} cores, {processor()}",
        "file system": file_system(folder),
        "Python": platform.python_version(),
        "page cache": "warm: the tree is copied and synced just before",
        **{name: version(program) for name, program in found.items()},
    }


def run_all(options: argparse.Namespace, folder: Path) -> None:
    """Measure all rounds; print and store the figures.

    Raises:
        SystemExit: Dockyard left other blobs than it had to.
    """
    found = programs()
    facts = machine(folder, found)
    tree, expected = grow(folder, options)
    runs: list[Run] = []
    for number in range(options.rounds):
        for mode in MODES:
            for contestant in found.items():
                if mode and contestant[0] == V2:
                    continue
                print(f"round {number + 1}", end="", file=sys.stderr, flush=True)
                runs.append(measure(folder, tree, contestant, mode, expected[mode]))
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    print(f"{V2} with -m is left out: it deletes the platforms of tagged images\n")
    print("\n".join(table(runs)))
    shape = {name: getattr(options, name) for name in ("repositories", "manifests", "blobs")}
    document = {"facts": facts, "tree": shape, "runs": [asdict(run) for run in runs]}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=1) + "\n")
    if any(run.missing or run.left for run in runs if run.contestant == OURS):
        raise SystemExit("Dockyard left other blobs than it had to")


def main() -> None:
    """Measure as the command line says."""
    today = datetime.now(UTC).date()  # noqa: TID251 -- the file's name
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the trees are made")
    parser.add_argument(
        "--json", type=Path, default=ROOT / f"benchmarks/results/collect-{today}.json"
    )
    parser.add_argument("--repositories", type=int, default=2_000)
    parser.add_argument("--manifests", type=int, default=20_000)
    parser.add_argument("--blobs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run_all(options, Path(folder))


if __name__ == "__main__":
    main()
