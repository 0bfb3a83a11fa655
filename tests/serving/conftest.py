from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.live_registry import LiveRegistry, live_registry
from tests.serving.probe import Served, serve


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Serve on the loop that workers use."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A probe, served with short time-outs."""
    async with serve() as served:
        yield served


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LiveRegistry]:
    """A service with one worker and an empty directory."""
    with live_registry(tmp_path) as live:
        yield live
