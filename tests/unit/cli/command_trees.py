"""A registry's tree for commands, and how they are run on it."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from dockyard.cli.main import registry
from dockyard.storage.filesystem import FilesystemStorage
from tests.parts.images import Image, image
from tests.unit.core.collecting import WEEK, Tree


ONE, TWO = image("one"), image("two")
NO_ITEM = "20260131T120000Z-1a2b3c4d"


class CommandTree:
    """A tree with a configuration, in which ``latest`` of ``a/b`` points to the second of two.

    Attributes:
        config: the configuration.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.config = folder / "config.yml"
        self.configure()
        self.do(lambda tree: tree.push("a/b", ONE, "latest", "v1"))
        self.do(lambda tree: tree.push("a/b", TWO, "latest"))

    def configure(self, **maintenance: object) -> None:
        """Write the configuration."""
        document = {
            "version": 0.1,
            "storage": {
                "filesystem": {"rootdirectory": str(self.root)},
                "maintenance": maintenance,
            },
        }
        self.config.write_text(yaml.safe_dump(document))

    def do(self, work: Callable[[Tree], Coroutine[Any, Any, Any]], keep: timedelta = WEEK) -> Any:  # noqa: ANN401
        """Do `work` as a server would, meanwhile; return its result."""
        return asyncio.run(work(Tree(FilesystemStorage(self.root), keep)))

    def points_to(self, tag: str = "latest") -> str:
        """Return what a tag of ``a/b`` points to."""
        return str(self.do(lambda tree: tree.services.tags.resolve("a/b", tag)))

    def run(self, *arguments: str) -> Result:
        """Run a command on the tree; one that is refused exits with its message."""
        return run(*arguments, "--config", str(self.config))

    def status_of(self, *arguments: str) -> int:
        """Return the status that a command's process would end with; it is not refused."""
        result = CliRunner().invoke(
            registry, [*arguments, "--config", str(self.config)], standalone_mode=False
        )
        return int(result.return_value)


def run(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(registry, list(arguments), prog_name="registry")


def assert_told(result: Result, *parts: str) -> None:
    """Assert that a command was refused with a message for people, and did nothing."""
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for part in parts:
        assert part in result.stderr


def changed(top: Image) -> str:
    """Return a digest that is not that of `top`."""
    return top.digest[:-4] + ("0000" if top.digest[-4:] != "0000" else "1111")
