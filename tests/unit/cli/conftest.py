from pathlib import Path

import pytest

from tests.unit.cli.command_trees import CommandTree


@pytest.fixture
def tree(tmp_path: Path) -> CommandTree:
    return CommandTree(tmp_path)
