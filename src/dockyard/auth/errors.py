"""Why somebody is not let in.

RefusedError
├── UnauthenticatedError
├── DeniedError
├── LoginRefusedError        (inside auth and http: it becomes UnauthenticatedError)
├── TokenRefusedError        (likewise; its kinds are in `dockyard.auth.tokens`)
├── KeyOfKeyError
└── TooManyLoginsError

DirectoryUnavailableError is a `RegistryError` by itself: it can't be told who they are.

Of what API keys are asked to be, beside these: `KeyInvalidError` (an `InvalidError`),
`KeyUnknownError` (an `UnknownError`), `KeyTakenError` (a `ConflictError`).
"""

import math
from collections.abc import Sequence

from dockyard.errors import (
    ConflictError,
    InvalidError,
    RefusedError,
    RegistryError,
    UnknownError,
)


class UnauthenticatedError(RefusedError):
    """Who asks has to say who they are, or to say it better.

    Attributes:
        challenge: how; the value of ``WWW-Authenticate``.
        wanted: what was asked for, as type, name and action each; nothing for the base.
    """

    def __init__(self, challenge: str, wanted: Sequence[tuple[str, str, str]] = ()) -> None:
        super().__init__("authentication required")
        self.challenge = challenge
        self.wanted = tuple(wanted)


class DeniedError(RefusedError):
    """It is known who asks, and they may not.

    Attributes:
        wanted: what was asked for, as type, name and action each.
    """

    def __init__(self, who: str, wanted: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(f"{who or 'anonymous'} may not")
        self.wanted = tuple(wanted)


class LoginRefusedError(RefusedError):
    """No account of this name has this password.

    Attributes:
        login: the name given.
    """

    def __init__(self, login: str) -> None:
        super().__init__(f"login of {login!r} failed")
        self.login = login


class DirectoryUnavailableError(RegistryError):
    """The directory of accounts is down, slow, or answers what can't be used.

    Attributes:
        reason: why, for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("the directory of accounts can't be asked: try again, or ask its keeper")
        self.reason = reason


class TokenRefusedError(RefusedError):
    """A bearer token proves nothing; the message says why, for the log."""


class KeyOfKeyError(RefusedError):
    """Who came with an API key asks for another: that could be good for more."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the key {name!r} can't make keys: send a password, or use the command `key create`"
        )
        self.name = name


class KeyInvalidError(InvalidError):
    """There can't be an API key as it is asked for; the message says why."""


class KeyTakenError(ConflictError):
    """There is an API key of that name already.

    Attributes:
        name: the name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a key {name!r} already: revoke it first, or choose a name")
        self.name = name


class KeyUnknownError(UnknownError):
    """There is no API key of that name.

    Attributes:
        name: the name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no key {name!r}; list the keys")
        self.name = name


class TooManyLoginsError(RefusedError):
    """Too many logins failed, or too many are being checked. This one was not looked at.

    Attributes:
        seconds: when to try again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many logins; try again in {math.ceil(seconds)} s")
        self.seconds = math.ceil(seconds)
