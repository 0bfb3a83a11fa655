"""What the state database holds. Losing it loses no image; who asks it must go on without it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from dockyard.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Job:
    """When something that is done now and then was done last.

    Attributes:
        name: what it is.
        started: when it began.
        ended: when it ended; `None` if it has not, or was killed.
        outcome: what came of it, in a line.
    """

    name: str
    started: datetime
    ended: datetime | None
    outcome: str = ""


class State(Protocol):
    """A database that processes share.

    Everything raises `StateError` if the database can't be used; nothing was changed then.
    """

    async def note_pulls(self, pulls: Collection[tuple[str, Digest]], day: date) -> None:
        """Note that manifests were pulled on `day`, with their repositories."""
        ...

    async def pulled_since(self, day: date) -> set[tuple[str, Digest]]:
        """Return the manifests that were pulled on `day` or later, with their repositories."""
        ...

    async def forget_pulls(self, before: date) -> None:
        """Forget what was not pulled since `before`."""
        ...

    async def note_job(self, job: Job) -> None:
        """Note when a job ran, in place of what was noted for its name."""
        ...

    async def job(self, name: str) -> Job | None:
        """Return when a job ran last, or `None` if that is not known."""
        ...

    async def close(self) -> None:
        """Release the database. It is opened again when it is asked again."""
        ...
