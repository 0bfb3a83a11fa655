"""A real ``registry serve`` in its own processes, on a free port of the loopback."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml


DEADLINE = 10.0
"""Seconds after which something that should happen soon is taken for lost."""

T = TypeVar("T")


def until(look: Callable[[], T | None], seconds: float = DEADLINE) -> T:
    """Return what `look` returns as soon as that is something true."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {look}"
        time.sleep(0.01)


def command(*arguments: str) -> list[str]:
    """Return the command line of `registry` in this environment."""
    return [str(Path(sys.executable).with_name("registry")), *arguments]


def write_configuration(directory: Path, **sections: Mapping[str, Any]) -> Path:
    """Write a configuration with its data below `directory`; return its path.

    A key that is `None` is left out.
    """
    configuration: dict[str, Any] = {
        "version": "0.1",
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": "127.0.0.1:0", "workers": 1},
    }
    for name, section in sections.items():
        merged = {**configuration.get(name, {}), **section}
        configuration[name] = {key: value for key, value in merged.items() if value is not None}
    path = directory / "config.yml"
    path.write_text(yaml.safe_dump(configuration))
    return path


@dataclass
class LiveRegistry:
    """A running service.

    Attributes:
        process: the parent; its workers are its children.
        address: where it listens, as it logged it: ``127.0.0.1:PORT`` or a path.
    """

    process: "subprocess.Popen[bytes]"
    directory: Path
    address: str = ""

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What was logged so far."""
        return (self.directory / "stderr").read_text()

    @property
    def access_log(self) -> str:
        return (self.directory / "stdout").read_text()

    def workers(self) -> list[int]:
        """Return the processes of the workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in path.read_text().split()] if path.exists() else []

    def stop(self, number: int = signal.SIGTERM, seconds: float = DEADLINE) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def _announced(self) -> str | None:
        assert self.process.poll() is None, f"the service ended: {self.log}"
        found = re.search(r'listening on ([^"]+)"', self.log)
        return found[1] if found else None


@contextmanager
def live_registry(
    directory: Path, *, environment: Mapping[str, str] | None = None, **sections: Mapping[str, Any]
) -> Iterator[LiveRegistry]:
    """Run a service configured by `sections`, its data, logs and configuration in `directory`."""
    path = write_configuration(directory, **sections)
    with (directory / "stdout").open("wb") as stdout, (directory / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command("serve", str(path)),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(environment or {})},
        )
    live = LiveRegistry(process, directory)
    try:
        live.address = until(live._announced)  # noqa: SLF001 -- the same module
        yield live
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
