"""Real programs: found on the machine or in `.parts/bin`, and run with a deadline.

`scripts/install-parts` installs them. A test that needs a missing program is skipped, except with
``CI=true``, where a missing program is a failure: there the tests must have run.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest


CHECKOUT: Final = Path(__file__).resolve().parents[2]
"""The folder that holds `pyproject.toml`."""

SEARCH_PATH: Final = os.pathsep.join(
    [
        str(CHECKOUT / ".parts" / "bin"),
        os.environ.get("PATH", ""),
        "/usr/local/sbin:/usr/sbin:/sbin",
    ]
)
"""Where programs are looked for: what `scripts/install-parts` built, then the machine's, system
programs included.
"""

RUN_SECONDS: Final = 60.0
"""How long a client command may take: the slowest seen here takes 6 s on a busy machine with two
cores.
"""


def find(program: str) -> str | None:
    """Return the path of `program`, or None if this machine does not have it."""
    return shutil.which(program, path=SEARCH_PATH)


def require(program: str) -> str:
    """Return the path of `program`; skip the running test if it is missing, or fail it with
    ``CI=true``.
    """
    path = find(program)
    if path is not None:
        return path
    remedy = f"{program} is not installed; scripts/install-parts installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(remedy, pytrace=False)
    pytest.skip(remedy)


def require_root(why: str) -> None:
    """Skip the running test unless it runs as root, or fail it with ``CI=true``."""
    if os.geteuid() == 0:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs root: {why}", pytrace=False)
    pytest.skip(f"needs root: {why}")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with `extra`, the programs' search path, and nothing that
    would sway them.

    A proxy is left out because loopback is never behind one; ``REGISTRY_*`` because it configures
    registries.
    """
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("REGISTRY_") and not key.lower().endswith("_proxy")
    }
    return {**kept, "PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", **(extra or {})}


class CommandFailedError(AssertionError):
    """A command ended with another status than the test said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.done = done
        words = " ".join(str(word) for word in done.args)
        super().__init__(
            f"status {done.returncode}: {words}\n"
            f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        )


def attempt(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    seconds: float = RUN_SECONDS,
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end, whatever its status, and return what it said.

    The program (the first word) is found by `require`. `env` is added to the environment.

    Raises:
        subprocess.TimeoutExpired: it took longer than `seconds`; it has been killed.
    """
    program, *arguments = (str(word) for word in command)
    return subprocess.run(
        [require(program) if "/" not in program else program, *arguments],
        env=environment(env),
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    seconds: float = RUN_SECONDS,
) -> str:
    """Run `command` to its end and return its standard output.

    Raises:
        CommandFailedError: it ended with a status other than 0; the message holds all it said.
        subprocess.TimeoutExpired: it took longer than `seconds`; it has been killed.
    """
    done = attempt(*command, env=env, cwd=cwd, stdin=stdin, seconds=seconds)
    if done.returncode != 0:
        raise CommandFailedError(done)
    return done.stdout
