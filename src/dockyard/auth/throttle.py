"""Makes guessing passwords slow, without locking anybody out.

Failed logins are counted by address *and* account: who guesses has to wait longer each time, while
the account's owner, from another address, notices nothing.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


FREE_FAILURES: Final = 3
"""Failed logins before there is a delay: a typing mistake is none of our business."""

LONGEST_DELAY: Final = 60.0
"""Seconds of the longest delay; it doubles from one second."""

FORGOTTEN: Final = 900.0
"""Seconds after the last failure at which failures are forgotten."""

REMEMBERED: Final = 10_000
"""Pairs of address and account that are remembered, about 2 MB; the oldest are forgotten."""


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Throttle:
    """Counts failed logins; one for each worker."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._failures: Final[OrderedDict[tuple[str, str], _Failures]] = OrderedDict()

    def delay(self, address: str, login: str) -> float:
        """Return the seconds that `address` has to wait before it may try `login` again."""
        failures = self._failures.get((address, login))
        if failures is None:
            return 0.0
        elapsed = self._clock() - failures.last
        if elapsed >= FORGOTTEN:
            del self._failures[address, login]
            return 0.0
        if failures.count < FREE_FAILURES:
            return 0.0
        doubled = 2.0 ** min(failures.count - FREE_FAILURES, 10)
        return max(0.0, min(doubled, LONGEST_DELAY) - elapsed)

    def failed(self, address: str, login: str) -> None:
        """Note a failed login."""
        key = (address, login)
        failures = self._failures.setdefault(key, _Failures(0, 0.0))
        failures.count += 1
        failures.last = self._clock()
        self._failures.move_to_end(key)
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, address: str, login: str) -> None:
        """Forget the failed logins: the password was right."""
        self._failures.pop((address, login), None)
