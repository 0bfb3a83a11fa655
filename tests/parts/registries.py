"""Registries under test: Dockyard, and the docker-registry whose place it takes."""

import http.client
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import pytest
import yaml

from tests.parts.daemon import Daemon, free_port
from tests.parts.programs import require


SERVER_VARIABLE: Final = "DOCKYARD_TEST_SERVER"
"""Set to a program such as ``docker-registry`` to run these tests against it, for comparison."""

OWN_FAILURE: Final = re.compile(
    r'Traceback \(most|\bstack=|http\.response\.status=5|HTTP/1\.1" 5\d\d '
)
"""What a log line looks like that tells of a failure which no client can be blamed for."""

PREDECESSOR: Final = "docker-registry"
"""Debian's docker-distribution 2.8."""


def server_program() -> str:
    """Return the program that the tests are about: `registry` of this environment, unless told
    otherwise.
    """
    named = os.environ.get(SERVER_VARIABLE)
    if named:
        return require(named)
    beside_python = Path(sys.executable).with_name("registry")
    if beside_python.exists():
        return str(beside_python)
    pytest.fail("no `registry` beside this Python: install the project into it", pytrace=False)


def is_predecessor() -> bool:
    """Say whether the tests run against docker-registry itself, which lacks what it lacks."""
    return os.environ.get(SERVER_VARIABLE) == PREDECESSOR


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on it, section by section; None in `over` removes a key."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


class RegistryUnderTest:
    """A registry with a folder of its own: configuration, root directory and log.

    Attributes:
        folder: everything of this registry lies below it.
        root: its root directory, which holds ``docker/registry/v2``.
        config: its configuration file.
        port: TCP port on 127.0.0.1; the same after a restart.
    """

    def __init__(
        self,
        folder: Path,
        *,
        program: str | None = None,
        root: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.root = root or folder / "root"
        self.root.mkdir(parents=True, exist_ok=True)
        self.config = folder / "config.yml"
        self.log = folder / "log"
        self.port = free_port()
        self._program = program or server_program()
        self._env = env
        self._daemon: Daemon | None = None
        self.configure(settings or {})

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``, as an image's name begins."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._daemon is not None
        return self._daemon.pid

    @property
    def daemon(self) -> Daemon:
        """The running server's process."""
        assert self._daemon is not None
        return self._daemon

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration: deletion on, this port and this root, and `settings` laid on
        that.
        """
        base: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "fields": {"service": "registry"}},
            "storage": {
                "delete": {"enabled": True},
                "filesystem": {"rootdirectory": str(self.root)},
            },
            "http": {"addr": self.address},
        }
        self.write_config(yaml.safe_dump(merge(base, settings), sort_keys=False))

    def write_config(self, text: str) -> None:
        """Write the configuration as it is given; the next start reads it."""
        self.config.write_text(text)

    def start(self) -> Self:
        """Start the server and return once it answers ``GET /v2/``.

        Raises:
            AssertionError: it ended or did not answer; the message shows its log.
        """
        assert self._daemon is None or self._daemon.status is not None, "already running"
        command: list[str | Path] = [self._program, "serve", self.config]
        self._daemon = Daemon(command, self.log, env=self._env)
        self._daemon.wait_until(self.answers)
        return self

    def answers(self) -> bool:
        """Say whether the server answers ``GET /v2/`` with 200 or 401."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in {200, 401}
        except OSError:
            return False
        finally:
            connection.close()

    def complaints(self) -> list[str]:
        """Return the log's lines on failures of the server's own: tracebacks, statuses 5xx."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if OWN_FAILURE.search(line)]

    def stop(self) -> None:
        """Stop the server, if it runs."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def restart(self) -> None:
        """Stop the server and start it with the configuration as it now is, on the same port."""
        self.stop()
        self.start()

    def become(self, program: str) -> None:
        """Stop the server and start `program` in its place: same configuration file, same root,
        same port.
        """
        self.stop()
        self._program = program
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def predecessor(folder: Path, settings: Mapping[str, Any] | None = None) -> RegistryUnderTest:
    """Return Debian's docker-registry, not yet started; skip the test where it is missing."""
    return RegistryUnderTest(folder, program=require(PREDECESSOR), settings=settings)
