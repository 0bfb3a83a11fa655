"""What the state database holds. Losing it loses no image; who asks it must go on without it."""

from collections.abc import Collection, Mapping, Sequence
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


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """An API key.

    Attributes:
        identifier: tells it from every other that there is or was.
        name: what people call it; no two have one name.
        owner: who it stands for, as they log in.
        secret: the hash of its secret.
        actions: what it is good for, in the words of the rules.
        repositories: the patterns of the repositories that it is good for.
        created: when it was made.
        expires: from when on it is no longer good; `None` if that never comes.
        used: about when it was used last; `None` if it never was.
    """

    identifier: str
    name: str
    owner: str
    secret: str
    actions: Sequence[str]
    repositories: Sequence[str]
    created: datetime
    expires: datetime | None = None
    used: datetime | None = None


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

    async def add_key(self, key: KeyRecord, most: int) -> bool:
        """Add an API key, unless there is one of its name, or there are `most`; return whether."""
        ...

    async def remove_key(self, name: str) -> bool:
        """Remove the API key called `name`; return whether there was one."""
        ...

    async def keys(self) -> Sequence[KeyRecord]:
        """Return all API keys by name."""
        ...

    async def keys_since(self, version: str) -> tuple[str, Sequence[KeyRecord] | None]:
        """Return the version of the API keys, and all of them if `version` is another.

        The version of no keys, where there never were any, is empty.
        """
        ...

    async def note_keys_used(self, used: Mapping[str, datetime]) -> None:
        """Note when API keys were used, by identifier. That is no new version."""
        ...

    async def close(self) -> None:
        """Release the database. It is opened again when it is asked again."""
        ...
