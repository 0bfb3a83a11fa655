"""What no linter has a rule for. Source of the limits: CONTRIBUTING.md."""

from pathlib import Path

import pytest

import dockyard


LINES = 400
"""Lines of a module, at most: the tail of long modules is where bad code lives."""

SOURCES = Path(dockyard.__file__).parent


@pytest.mark.parametrize(
    "module",
    sorted(SOURCES.rglob("*.py")),
    ids=lambda path: str(path.relative_to(SOURCES)),
)
def test_a_module_is_short(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= LINES


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(module.relative_to(SOURCES))
        for module in SOURCES.rglob("*.py")
        if not module.read_text(encoding="utf-8").startswith('"""')
    ]
    assert silent == []
