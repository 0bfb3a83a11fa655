"""A registry's tree on the disk, and a command that looks at it."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from dockyard.storage.filesystem import FilesystemStorage
from tests.unit.core.pushing import Tree


def plant(root: Path, pushing: Callable[[Tree], Awaitable[None]]) -> Path:
    """Do what `pushing` does to a tree below `root`; return a configuration for it."""

    async def planted() -> None:
        await pushing(Tree(FilesystemStorage(root / "data")))

    asyncio.run(planted())
    config = root / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\n"
        "http: {addr: ':0'}\n"
    )
    return config


def registry(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command of the registry."""
    command = [sys.executable, "-m", "dockyard", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
