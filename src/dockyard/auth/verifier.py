"""Verifies tokens, and remembers for a moment which were good."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from dockyard.auth.keys import TrustedKeys
from dockyard.auth.tokens import Claims, Expected, verify
from dockyard.clock import Clock


REMEMBERED_TOKENS: Final = 2048
"""Tokens that are remembered, under 4 MB; the one longest unused is forgotten."""

REMEMBERED_FOR: Final = timedelta(seconds=30)
"""How long a token that was good is taken without looking again: half the leeway of the clocks, so
that it is never taken for longer than a clock may be wrong."""


class Verifier:
    """Verifies tokens of one issuer; one for each worker.

    Args:
        expected: what a token has to be.
        keys: returns the keys that are trusted now.
        clock: tells whether a token is good now.
    """

    def __init__(
        self, expected: Expected, keys: Callable[[str], TrustedKeys], clock: Clock
    ) -> None:
        self._expected: Final = expected
        self._keys: Final = keys
        self._clock: Final = clock
        self._good: Final[OrderedDict[bytes, tuple[datetime, Claims]]] = OrderedDict()

    def verify(self, token: str) -> Claims:
        """Return what `token` says.

        Raises:
            TokenRefusedError: it is not good.
        """
        now = self._clock()
        # Its hash, not itself: memory that is read by mistake should not open anything.
        mark = hashlib.blake2b(token.encode("utf-8", "surrogateescape"), digest_size=32).digest()
        until, claims = self._good.get(mark, (now, None))
        if claims is not None and now < until:
            self._good.move_to_end(mark)
            return claims
        self._good.pop(mark, None)
        claims = verify(token, self._expected, self._keys, self._clock)
        self._good[mark] = (now + REMEMBERED_FOR, claims)
        while len(self._good) > REMEMBERED_TOKENS:
            self._good.popitem(last=False)
        return claims
