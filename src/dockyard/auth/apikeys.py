"""API keys: their secrets, their names, and what they may be good for. Pure, but for chance.

A secret is random and long, so its hash needs to be neither slow nor salted: nobody can guess it.
Source: NIST SP 800-63B, section 5.1.2.2, which asks for that of secrets under 112 bits only.
"""

import hashlib
import re
import secrets
import string
from collections.abc import Sequence
from typing import Final, Protocol

from dockyard.auth.accounts import Account
from dockyard.auth.actions import Action, parts
from dockyard.auth.policy import GRANTABLE, PatternInvalidError, compile_pattern
from dockyard.auth.scope import Scope


PREFIX: Final = "dky_"
"""What the secret of a key begins with, so that scanners for leaked secrets can know it."""

SECRET_LETTERS: Final = 32
"""Random letters of a secret, of 62 that there are: 190 bits."""

NAME_LIMIT: Final = 64
"""Characters of a key's name, at most: it stands in a URL and in lines of the log."""

PATTERNS_LIMIT: Final = 32
"""Patterns of repositories of one key, at most: each is tried for each request."""

EVERYTHING: Final = ("*",)
"""All actions, as a rule says it."""

_ALPHABET: Final = string.ascii_letters + string.digits
_SECRET: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{SECRET_LETTERS}}}")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


class ApiKeys(Protocol):
    """The API keys that are good now."""

    async def by_secret(self, secret: str) -> Account | None:
        """Return the account that a secret stands for, narrowed to what the key is good for.

        Raises:
            StorageError: it can't be told.
        """
        ...

    async def by_identifier(self, identifier: str) -> Account | None:
        """Return the account that the key with an identifier stands for; likewise."""
        ...


def make_secret() -> str:
    """Return a new secret."""
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_LETTERS))


def is_secret(password: str) -> bool:
    """Return whether a password is of the form that secrets of keys have."""
    return _SECRET.fullmatch(password) is not None


def hash_secret(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def check_name(name: str) -> None:
    """Return if `name` can be that of a key.

    Raises:
        ValueError: it can't; the message says how one is.
    """
    if len(name) > NAME_LIMIT or _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} can't be a key's name: it must have letters a-z, digits, '.', '_' and '-', "
            f"begin with a letter or digit, and have at most {NAME_LIMIT} characters"
        )


def check_actions(actions: Sequence[str]) -> None:
    """Return if a key can be good for `actions`.

    Raises:
        ValueError: it can't, or it would be good for nothing; the message says why.
    """
    known = [action.value for action in GRANTABLE]
    if not actions:
        raise ValueError("actions: at least one is needed, or '*' for all")
    for text in actions:
        if text != "*" and text not in known:
            raise ValueError(f"actions: {text!r} is none of {', '.join(known)}, *")
    given = parse_actions(actions)
    for action in given:
        missing = [part.value for part in parts(action) if part not in given]
        if missing:
            raise ValueError(f"actions: {action.value} needs {missing[0]} too")


def check_patterns(patterns: Sequence[str]) -> None:
    """Return if a key can be good for the repositories that `patterns` mean.

    Raises:
        ValueError: it can't; the message says why.
    """
    if not 1 <= len(patterns) <= PATTERNS_LIMIT:
        raise ValueError(f"repositories: from 1 to {PATTERNS_LIMIT} patterns; '**' is all")
    for pattern in patterns:
        try:
            compile_pattern(pattern)
        except PatternInvalidError as error:
            raise ValueError(f"repositories: {pattern!r} {error}") from error


def parse_actions(actions: Sequence[str]) -> frozenset[Action]:
    """Return the actions that `actions` name."""
    if "*" in actions:
        return frozenset(GRANTABLE)
    return frozenset(action for action in GRANTABLE if action.value in actions)


def scope_of(key: str, name: str, actions: Sequence[str], patterns: Sequence[str]) -> Scope:
    """Return what a key is good for."""
    compiled = [compile_pattern(pattern) for pattern in patterns]
    return Scope(key, name, parse_actions(actions), compiled)
