import pytest
from hypothesis import settings


# The machine's load is no property of the code: no deadline for an example.
settings.register_profile("dockyard", deadline=None)
settings.load_profile("dockyard")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
