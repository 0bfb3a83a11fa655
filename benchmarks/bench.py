#!/usr/bin/env python3
"""How does Dockyard compare with docker-registry 2.8.2, distribution 3.1.1 and nginx?

All contestants serve the same files on this machine, in this run, in turns (A B C A B C): in each
round, for each stage (a tree and a configuration), one contestant after the other is started,
measured by all rows of the stage, and stopped. nginx serves the files as such: the machine's limit.
Load comes from wrk, and from a client of ours in Go.

Every figure is of the whole server, all its processes. What is not installed is left out, and said
to be. The results go to a file, from which ``report.py`` writes the document.

    .venv/bin/python -m benchmarks.bench [--rounds 5] [--seconds 2] [--rows PATTERN]
                                         [--contestants A,B] [--quick] [--json FILE]
"""

import argparse
import compileall
import fnmatch
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.content import Content, lists_tree, main_tree, referrers_tree
from benchmarks.contestants import (
    ROOT,
    ZOT,
    Server,
    Setup,
    programs,
    serving,
    version,
)
from benchmarks.credentials import GATES, certificate
from benchmarks.measures import Job, LoadError, Measurement, build_load
from benchmarks.report import RESULTS, console
from benchmarks.rows import EVERYONE, Row, Stage, rows
from benchmarks.seeding import seed


NEEDED: Final = ("wrk", "go")
ROOM: Final = 12 << 30
"""Bytes of disk that a run needs: the trees, and 64 pushes for some seconds."""


@dataclass(slots=True)
class Run:
    """A run, as far as it has come.

    Attributes:
        options: what the command line says.
        folder: where everything is.
        found: the contestants.
        facts: what the figures depend on.
        results: by row and contestant, what each round found; `None` where it is not offered.
        trees: those that were made.
        rounds: how many are done, or begun.
        began: when.
    """

    options: argparse.Namespace
    folder: Path
    found: Mapping[str, Path]
    facts: Mapping[str, str]
    results: dict[str, dict[str, list[Measurement | None]]] = field(default_factory=dict)
    trees: dict[str, Content] = field(default_factory=dict)
    rounds: int = 0
    began: float = field(default_factory=time.monotonic)

    def tree(self, name: str) -> Content:
        """Return a tree, which is made when it is first asked for."""
        if name not in self.trees:
            root = self.folder / f"tree-{name}"
            began = time.monotonic()
            match name:
                case "main":
                    self.trees[name] = main_tree(root)
                case "referrers":
                    self.trees[name] = referrers_tree(root)
                case _:
                    self.trees[name] = lists_tree(root, int(name))
            say(f"made the tree {name} in {time.monotonic() - began:.0f} s")
        return self.trees[name]

    def stage(self, stage: Stage, chosen: Sequence[Row]) -> None:
        """Measure the rows of a stage by all contestants, one after the other."""
        for name, program in self.found.items():
            mine = [row for row in chosen if name in row.who]
            if not mine:
                continue
            place = self.folder / "now"
            place.mkdir()
            content, setup = self.prepare(stage, place)
            if name == ZOT:
                setup = replace(setup, data=self.seeded(stage, place, program))
            with serving(name, program, setup, place / "server") as server:
                for row in mine:
                    self.note(row, server, content)
            shutil.rmtree(place)
            os.sync()

    def seeded(self, stage: Stage, place: Path, program: Path) -> Path:
        """Return a directory of zot's own that has what the tree of a stage has."""
        if stage.tree == "empty":
            return place / "zot"
        kept = self.folder / f"zot-{stage.tree}"
        if not kept.exists():
            with serving(ZOT, program, Setup(kept), place / "seeding") as server:
                seed(self.tree(stage.tree), server.address)
        subprocess.run(["cp", "-a", kept, place / "zot"], check=True)
        return place / "zot"

    def prepare(self, stage: Stage, place: Path) -> tuple[Content, Setup]:
        """Return what a stage serves, and how."""
        if stage.tree == "empty":
            content = Content(place / "data")
        elif stage.tree == "main":
            content = self.tree("main").copy(place / "data")
        else:
            content = self.tree(stage.tree)
        sections: Mapping[str, Any] = {}
        if stage.gate:
            gate = GATES[stage.gate](place)
            sections = gate.sections
            content.digests = content.digests | {"authorization": gate.authorization}
        cert = None
        if stage.tls:
            cert = place / "server.pem"
            certificate(cert)
        return content, Setup(content.root, sections, cert, places(content))

    def note(self, row: Row, server: Server, content: Content) -> None:
        """Measure a row, and keep what was found."""
        try:
            measured = row.measure(Job(server, content, self.options.seconds))
        except LoadError as error:  # one failure must not cost a run of half an hour
            say(f"  {row.key} by {server.name} failed: {error}")
            measured = Measurement(errors=1)
        self.results.setdefault(row.key, {}).setdefault(server.name, []).append(measured)
        shown = "not offered"
        if measured is not None:
            figures = asdict(measured).items()
            shown = "  ".join(f"{name} {value:.6g}" for name, value in figures if value is not None)
        say(f"  {row.key:<20} {server.name:<22} {shown}")

    def round(self, chosen: Sequence[Row]) -> None:
        """Go through the stages that have chosen rows, once; store what is known then."""
        self.rounds += 1
        say(f"round {self.rounds}")
        for stage in dict.fromkeys(row.stage for row in chosen):
            self.stage(stage, [row for row in chosen if row.stage == stage])
        if path := self.options.json:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.document(), indent=1) + "\n")

    def document(self) -> dict[str, Any]:
        """Return what is stored."""
        return {
            "facts": self.facts,
            "rounds": self.rounds,
            "seconds": self.options.seconds,
            "minutes": round((time.monotonic() - self.began) / 60, 1),
            "rows": {
                key: {
                    name: [found and figures(found) for found in rounds]
                    for name, rounds in servers.items()
                }
                for key, servers in self.results.items()
            },
        }


def figures(found: Measurement) -> dict[str, float]:
    """Return what a measurement knows, to the digits that mean something."""
    known = {name: value for name, value in asdict(found).items() if value is not None}
    return {name: float(f"{value:.6g}") for name, value in known.items()}


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def places(content: Content) -> dict[str, Path]:
    """Return which file nginx answers the paths of the manifest with."""
    digest = content.digests.get("manifest")
    if digest is None:
        return {}
    base = "/v2/bench/image/manifests"
    return {f"{base}/v1": content.data(digest), f"{base}/{digest}": content.data(digest)}


def facts(found: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """Return what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    command = ["df", "--output=fstype", str(folder)]
    system = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return {
        "date": str(datetime.now(UTC).date()),  # noqa: TID251 -- when it was measured
        "machine": f"{os.cpu_count()} cores, {models[0] if models else '?'}, {gigabytes:.0f} GB",
        "system": f"{platform.platform()}, {system}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": platform.python_version(),
        "commit": commit,
        **{name: version(name, program) for name, program in found.items()},
    }


def contestants(asked: str) -> dict[str, Path]:
    """Return who takes part, and say who does not.

    Raises:
        SystemExit: Dockyard itself is not installed, or a name is not known.
    """
    found = programs()
    wanted = [name.strip().lower() for name in asked.split(",") if name.strip()]
    if wanted:
        found = {n: p for n, p in found.items() if any(each in n.lower() for each in wanted)}
    for name in EVERYONE:
        if name not in found:
            say(f"{name}: left out")
    if not found:
        raise SystemExit("nobody is left to be measured")
    return found


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each load")
    parser.add_argument("--rows", default="*", help="only those whose key matches")
    parser.add_argument("--contestants", default="", help="only those, by parts of their names")
    parser.add_argument("--quick", action="store_true", help="one round, one second: to try it")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "var", help="where the trees are made"
    )
    parser.add_argument("--json", type=Path, help="where the results go")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    return options


def main() -> None:
    """Measure every row by every contestant, in turns."""
    options = parse()
    if absent := [program for program in NEEDED if shutil.which(program) is None]:
        raise SystemExit(f"missing: {', '.join(absent)} (Debian: apt install wrk golang)")
    chosen = [row for row in rows() if fnmatch.fnmatch(row.key, options.rows)]
    if not chosen:
        raise SystemExit(f"no row matches {options.rows}")
    found = contestants(options.contestants)
    build_load()
    compileall.compile_dir(ROOT / "src", quiet=1)  # as pip does with what it installs
    options.folder.mkdir(exist_ok=True)
    if shutil.disk_usage(options.folder).free < ROOM:
        raise SystemExit(f"{options.folder} has no room: {ROOM >> 30} GiB are needed")
    whole = options.rows == "*" and not options.contestants and not options.quick
    options.json = options.json or (RESULTS if whole else None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    folder = Path(tempfile.mkdtemp(dir=options.folder, prefix="bench-"))
    try:
        run = Run(options, folder, found, facts(found, folder))
        for _ in range(options.rounds):
            run.round(chosen)
        print(console(run.document()), flush=True)
    finally:
        say("removing the trees")
        subprocess.run(["rm", "-rf", folder], check=False)  # a million names: rmtree takes longer


if __name__ == "__main__":
    main()
