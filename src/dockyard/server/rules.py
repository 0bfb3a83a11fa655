"""The rules in effect, which follow the configuration while the service runs.

The parent of the workers reads the configuration anew, alone: so all workers have the same rules,
one that replaces another included, and what is wrong is told once. It lays the section ``access``
into a file in memory that the workers have open since they were forked, and signals them.
"""

import hashlib
import os
import pickle
from collections.abc import Callable
from typing import Final

from dockyard.clock import utc_now
from dockyard.config import ConfigurationError, Loaded, Settings
from dockyard.config.access import AccessSettings
from dockyard.config.changes import changed
from dockyard.errors import RegistryError
from dockyard.server.certificates import identity_of
from dockyard.telemetry import logger


SHOWN_KEYS: Final = 5
"""Keys that a line of the log names; whoever changed more is told how many."""

_DIGEST: Final = 32


class Handover:
    """The section ``access``, as the parent last handed it to its workers.

    Made before they are forked. What is torn, since it is read while it is written, is not taken:
    the signal that follows the writing is on its way.
    """

    def __init__(self) -> None:
        self._file: Final = os.memfd_create("access")

    def put(self, access: AccessSettings) -> None:
        """Lay `access` down for the workers."""
        content = pickle.dumps(access)
        mark = hashlib.blake2b(content, digest_size=_DIGEST).digest()
        os.pwrite(self._file, mark + content, 0)
        os.ftruncate(self._file, _DIGEST + len(content))

    def take(self) -> AccessSettings | None:
        """Return what was laid down last, or `None` if nothing was."""
        found = os.pread(self._file, os.fstat(self._file).st_size, 0)
        mark, content = found[:_DIGEST], found[_DIGEST:]
        if hashlib.blake2b(content, digest_size=_DIGEST).digest() != mark:
            return None
        access: AccessSettings = pickle.loads(content)  # noqa: S301 -- the parent's; nobody else has it
        return access


class Rules:
    """What the parent of the workers knows of the configuration.

    Args:
        loaded: the configuration at the start.
        read: reads it anew.

    Attributes:
        settings: those in effect: as at the start, but for the section ``access``.
        handover: where workers that run already find that section.
    """

    def __init__(self, loaded: Loaded, read: Callable[[], Loaded]) -> None:
        self.settings = loaded.settings
        self.handover: Final = Handover()
        self._read: Final = read
        self._path: Final = loaded.path
        self._seen = self._look()
        self._before = self._seen

    def watch(self) -> bool:
        """Read the configuration anew if its file changed; return whether there are new rules.

        A change counts once two looks saw the same: a file is not read while it is written.
        """
        now, before = self._look(), self._before
        self._before = now
        return now != self._seen and now == before and self.reread()

    def reread(self) -> bool:
        """Read the configuration anew; return whether there are new rules.

        A configuration that can't be used, or in which anything else is different, is told in the
        log and changes nothing.
        """
        self._seen = self._look()
        try:
            loaded = self._read()
            found = loaded.settings
            kept = list(_kept(self.settings, found))
            if kept:
                logger().error("rules not replaced: these keys need a restart", keys=_shown(kept))
                return False
            if found == self.settings:
                return False
            from dockyard.server.access import build_entrance  # noqa: PLC0415 -- see `is_guarded`

            build_entrance(found, utc_now)  # what a worker could not do is known here
        except (ConfigurationError, RegistryError) as error:
            reason = str(error).replace("\n", "; ")
            logger().error("rules not replaced: the old ones stay", reason=reason)
            return False
        assert found.access is not None  # a section that vanished is among the keys kept
        for finding in loaded.findings:
            logger().warning(str(finding))
        self.settings = found
        self.handover.put(found.access)
        logger().info("rules replaced", rules=len(found.access.rules))
        return True

    def _look(self) -> tuple[int, ...]:
        return () if self._path is None else identity_of(self._path)


def _kept(before: Settings, after: Settings) -> list[str]:
    """Return the keys that are different and can't be while the service runs.

    That ``access`` vanishes would open the registry: whoever wants that restarts it.
    """
    keys = [key for key in changed(before, after) if key.partition(".")[0] != "access"]
    return [*keys, "access"] if before.access is not None and after.access is None else keys


def _shown(keys: list[str]) -> str:
    more = len(keys) - SHOWN_KEYS
    return ", ".join(keys[:SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
