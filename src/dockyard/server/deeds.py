"""What commands do to a registry's tree, for its audit log."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias

from dockyard.clock import Clock, utc_now
from dockyard.config.audit import AuditSettings
from dockyard.http.audit import render
from dockyard.server.build import open_journal


REPAIR: Final = "repair"
"""What the audit log calls a repair."""

Counts: TypeAlias = dict[str, int]
"""How many of what a deed was about, where it is about many; what is zero is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What a command does.

    Attributes:
        action: as the audit log calls it.
        repository: to which repository.
        reference: to which tag.
        item: with which item of the trash, which key, or which user.
    """

    action: str
    repository: str = ""
    reference: str = ""
    item: str = ""


@contextmanager
def noted(deed: Deed, settings: AuditSettings, clock: Clock = utc_now) -> Iterator[Counts]:
    """Tell the audit log, if there is one, what is done within the context, and whether it failed.

    The log is not made here, and not rotated: its file belongs to the user that the servers run as.

    Yields:
        what is told beside the deed; filled in within the context, as soon as it is known.
    """
    journal = open_journal(settings, owned=False)
    result, counts = "failed", Counts()
    try:
        yield counts
        result = "allowed"
    finally:
        if journal is not None:
            who = {"kind": "operator", "name": _user()}
            journal.write(render(clock, {"result": result, **who, **asdict(deed), **counts}))


def _user() -> str:
    """Return who runs this process, by the name that the system has for them."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
