"""Small disks of their own for tests that fill them or take them away."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest


Mount: TypeAlias = Callable[[str], Path]
"""Mounts an empty tmpfs with the options given and returns where it is."""


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount an empty tmpfs at `folder`; skip the test where that is impossible, or fail in CI."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = f"can't mount a tmpfs: {done.stderr.strip()}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    try:
        yield folder
    finally:
        # Lazily: a process that has a file open there is no reason to leave it behind.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    with ExitStack() as stack:

        def mount_next(options: str) -> Path:
            name = f"disk-{len(list(tmp_path.glob('disk-*')))}"
            return stack.enter_context(mounted(tmp_path / name, options))

        yield mount_next
