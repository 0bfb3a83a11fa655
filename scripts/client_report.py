#!/usr/bin/env python3
"""Writes docs/reference/clients.md from the result of a test run.

    scripts/client_report.py results/tests.xml > docs/reference/clients.md

The argument is what ``pytest --junitxml`` wrote; versions are asked of the programs on this
machine.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final


CHECKOUT: Final = Path(__file__).resolve().parents[1]

PARTS: Final = CHECKOUT / ".parts" / "bin"
"""Where `scripts/install-parts` puts what it builds, each with its version beside it."""

ASK_SECONDS: Final = 20.0
"""How long a program may take to tell its version."""

INTRODUCTION: Final = """\
# Clients

Every client below pushed to a running Dockyard and pulled from it elsewhere, and the contents were
compared. This page is written by `scripts/client_report.py` from the last run of `make test-all`;
do not edit it.
"""


def asked(program: str) -> str:
    """Return the first number in what a program says of its version, or that it is missing."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        return "not installed"
    done = subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=ASK_SECONDS, check=False
    )
    found = re.search(r"\d+\.\d+[\w.+~-]*", done.stdout + done.stderr)
    return found[0].rstrip(",") if found else "unknown"


def built(program: str) -> str:
    """Return the version of a program that `scripts/install-parts` built."""
    stamp = PARTS / f".{program}.version"
    return stamp.read_text().strip() if stamp.exists() else "not built"


def python(package: str) -> str:
    """Return the version of a Python package."""
    return importlib.metadata.version(package)


@dataclass(frozen=True, slots=True)
class Client:
    """A row of the table.

    Attributes:
        name: as its users call it.
        version: tells the version that was run.
        module: the tests' module.
        only: part of the names of its tests, where a module is about several clients.
    """

    name: str
    version: Callable[[], str]
    module: str
    only: str = ""


CLIENTS: Final[Sequence[Client]] = (
    Client("docker, the walkthrough", lambda: asked("dockerd"), "clients.test_walkthrough"),
    Client("docker", lambda: asked("dockerd"), "clients.test_docker"),
    Client("podman", lambda: asked("podman"), "clients.test_containers", "podman"),
    Client("buildah", lambda: asked("buildah"), "clients.test_containers", "buildah"),
    Client("skopeo", lambda: asked("skopeo"), "clients.test_skopeo"),
    Client("containerd `ctr`", lambda: asked("ctr"), "clients.test_containerd"),
    Client("crane", lambda: built("crane"), "clients.test_crane"),
    Client("regctl", lambda: built("regctl"), "clients.test_regctl"),
    Client("oras", lambda: built("oras"), "clients.test_oras"),
    Client("helm", lambda: built("helm"), "clients.test_helm"),
    Client("cosign", lambda: built("cosign"), "clients.test_cosign"),
    Client("oras for Python", lambda: python("oras"), "clients.test_python_clients", "oras"),
    Client("python-dxf", lambda: python("python-dxf"), "clients.test_python_clients", "dxf"),
    Client(
        "docker, logging in over TLS", lambda: asked("dockerd"), "clients.test_entrances", "[docker"
    ),
    Client(
        "podman, logging in over TLS", lambda: asked("podman"), "clients.test_entrances", "[podman"
    ),
    Client(
        "skopeo, logging in over TLS", lambda: asked("skopeo"), "clients.test_entrances", "[skopeo"
    ),
    Client(
        "containerd `ctr`, logging in over TLS",
        lambda: asked("ctr"),
        "clients.test_entrances",
        "[containerd",
    ),
    Client("docker-registry 2", lambda: asked("docker-registry"), "takeover", "docker-registry"),
    Client("distribution 3", lambda: built("registry-v3"), "takeover", "distribution-3"),
    Client("OCI conformance suite", lambda: built("conformance"), "conformance"),
)
"""The rows, in the order of the page."""


@dataclass(frozen=True, slots=True)
class Case:
    """A test of the run: its module and name, and how it ended."""

    module: str
    name: str
    result: str

    @property
    def claim(self) -> str:
        """The test's name as a sentence, with the case in brackets."""
        words, _, case = self.name.removeprefix("test_").partition("[")
        return words.replace("_", " ") + (f" ({case.removesuffix(']')})" if case else "")


def cases(report: Path) -> Iterator[Case]:
    """Yield the tests of a run from pytest's report."""
    for case in ET.parse(report).getroot().iter("testcase"):
        ended = {child.tag for child in case} & {"failure", "error", "skipped"}
        result = "FAILED" if ended & {"failure", "error"} else "skipped" if ended else "passed"
        module = case.get("classname", "").removeprefix("tests.")
        yield Case(module, case.get("name", ""), result)


def of_client(client: Client, run: Sequence[Case]) -> list[Case]:
    """Return the client's tests."""
    return [
        case for case in run if case.module.startswith(client.module) and client.only in case.name
    ]


def summary(tests: Sequence[Case]) -> str:
    """Return how the tests of a client ended, such as ``7 passed``."""
    if not tests:
        return "not run"
    results = [case.result for case in tests]
    counts = {name: results.count(name) for name in ("passed", "FAILED", "skipped")}
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)


def table(run: Sequence[Case]) -> Iterator[str]:
    """Yield the lines of the table of clients."""
    yield "| client | version | result |"
    yield "| --- | --- | --- |"
    for client in CLIENTS:
        yield f"| {client.name} | {client.version()} | {summary(of_client(client, run))} |"


def recorded(report: Path) -> Iterator[str]:
    """Yield the lines that tell the numbers which the run recorded."""
    for each in ET.parse(report).getroot().iter("property"):
        yield f"* {each.get('name')}: {each.get('value')}"


def claims(run: Sequence[Case]) -> Iterator[str]:
    """Yield the lines that say what was run with each client."""
    for client in CLIENTS:
        tests = of_client(client, run)
        if tests:
            yield f"\n### {client.name}\n"
            yield from (f"* {case.result}: {case.claim}" for case in tests)


def machine() -> str:
    """Return what the run was made on."""
    release = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    version = platform.python_version()
    return f"{release}, {platform.machine()}, {os.cpu_count()} cores, Python {version}"


def main(arguments: Sequence[str]) -> int:
    """Print the page; return the exit status."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    report = Path(arguments[0])
    run = list(cases(report))
    started = next(ET.parse(report).getroot().iter("testsuite")).get("timestamp", "")[:10]
    print(INTRODUCTION)
    print(f"Last run: {started}, {machine()}.\n")
    print("\n".join(table(run)))
    print("\n## Suites of others\n")
    print("\n".join(recorded(report)))
    print("\n## What was run")
    print("\n".join(claims(run)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
