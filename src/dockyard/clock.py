"""Time as a dependency, so that tests own it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias


Clock: TypeAlias = Callable[[], datetime]
"""Returns the present moment, always aware and in UTC."""


def utc_now() -> datetime:
    """Return the present moment of the machine's clock, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 -- the one place allowed to ask
