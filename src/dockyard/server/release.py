"""Which release this is."""

from importlib.metadata import version
from typing import Final


COMPATIBLE: Final = "v3.1.1"
"""The release of docker-distribution whose interface this is; scripts compare it."""


def release() -> str:
    """Return the version in distribution's form with ours as its build metadata.

    Such as ``v3.1.1+dockyard.0.1.0``. Source: semver.org, section 10.
    """
    return f"{COMPATIBLE}+dockyard.{version('dockyard')}"
