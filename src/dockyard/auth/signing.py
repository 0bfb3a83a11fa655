"""The keys that our own tokens are signed with.

They lie in a directory that all workers and replicas share, one file each, called by its number:
the highest signs, the others are still good for what they have signed. A file is linked to its name
when it is whole, so of several that make a key at once one wins, and all use that one.
"""

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from dockyard.auth.keys import TrustedKeys
from dockyard.clock import Clock
from dockyard.errors import StorageError


ALGORITHM: Final = "ES256"
"""What our tokens are signed with: short signatures, and every library verifies them."""

ROTATION: Final = timedelta(days=90)
"""The age at which a key is replaced."""

LOOK_AGAIN: Final = timedelta(seconds=1)
"""How long a worker goes without looking for a key that another may just have made."""

_NAME: Final = re.compile(r"([1-9][0-9]{0,8})\.json")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of ours.

    Attributes:
        number: counts the keys, from 1.
        name: what tokens call it.
        made: when.
        key: the private key.
    """

    number: int
    name: str
    made: datetime
    key: ECKey

    @property
    def public(self) -> Mapping[str, Any]:
        """The public key as a JWK."""
        parts = self.key.as_dict(private=False)
        shown = {part: parts[part] for part in ("kty", "crv", "x", "y")}
        return {**shown, "kid": self.name, "use": "sig", "alg": ALGORITHM}


class KeyRing:
    """Our keys; one for each worker, all on the same directory.

    Args:
        directory: where they lie; `None` keeps one in memory, for a registry in memory.
        clock: tells the age of a key.
        kept: how long what a key has signed may be good after the key was replaced.
    """

    def __init__(self, directory: Path | None, clock: Clock, kept: timedelta) -> None:
        self._directory: Final = directory
        self._clock: Final = clock
        self._kept: Final = kept
        self._keys: Mapping[int, SigningKey] = {}
        self._looked = datetime(1970, 1, 1, tzinfo=UTC)

    def current(self) -> SigningKey:
        """Return the key to sign with; it is made if there is none, or the last one is old.

        Raises:
            StorageError: keys can't be read or written.
        """
        self._look()
        last = self._keys.get(max(self._keys, default=0))
        if last is None or self._clock() - last.made >= ROTATION:
            self.rotate()
            last = self._keys[max(self._keys)]
        return last

    def rotate(self) -> None:
        """Make a new key, unless another process makes one at this moment; forget dead ones.

        Raises:
            StorageError: keys can't be read or written.
        """
        self._look(now=True)
        key = _generate(max(self._keys, default=0) + 1, self._clock())
        if self._directory is None:
            self._keys = {**self._keys, key.number: key}
            return
        try:
            _write(self._directory, key)
            self._look(now=True)
            self._forget()
        except OSError as error:
            raise _unusable(self._directory, error) from error

    def trusted(self, name: str) -> TrustedKeys:
        """Return our keys, to verify a token whose header names the key `name`.

        Raises:
            StorageError: keys can't be read.
        """
        if all(key.name != name for key in self._keys.values()):
            self._look()
        return TrustedKeys({key.name: key.key for key in self._keys.values()})

    def public(self) -> Sequence[Mapping[str, Any]]:
        """Return the public keys, the one that signs first.

        Raises:
            StorageError: keys can't be read or written.
        """
        self.current()
        return [self._keys[number].public for number in sorted(self._keys, reverse=True)]

    def _look(self, *, now: bool = False) -> None:
        """Read the directory; a key that is known is not read again."""
        moment = self._clock()
        if self._directory is None or (not now and moment - self._looked < LOOK_AGAIN):
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            names = [_NAME.fullmatch(entry.name) for entry in self._directory.iterdir()]
            numbers = [int(match[1]) for match in names if match]
            self._keys = {
                number: self._keys.get(number) or _read(self._directory, number)
                for number in numbers
            }
        except OSError as error:
            raise _unusable(self._directory, error) from error
        self._looked = moment

    def _forget(self) -> None:
        """Remove keys whose last signature can't be good any more."""
        assert self._directory is not None
        numbers = sorted(self._keys)
        for number, successor in pairwise(numbers):
            if self._clock() - self._keys[successor].made > self._kept:
                (self._directory / f"{number}.json").unlink(missing_ok=True)


def _generate(number: int, made: datetime) -> SigningKey:
    key = ECKey.generate_key("P-256")
    return SigningKey(number, key.thumbprint(), made, key)


def _write(directory: Path, key: SigningKey) -> None:
    """Write a key to its file, unless there is one of its number."""
    document = {
        **key.key.as_dict(private=True),
        "kid": key.name,
        "made": int(key.made.timestamp()),
    }
    temporary = directory / f".{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, directory / f"{key.number}.json")
    except FileExistsError:
        return
    finally:
        temporary.unlink()
    _sync(directory)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(directory: Path, number: int) -> SigningKey:
    path = directory / f"{number}.json"
    try:
        document = json.loads(path.read_bytes())
        made = datetime.fromtimestamp(document["made"], UTC)
        parts = {part: document[part] for part in ("kty", "crv", "x", "y", "d")}
        return SigningKey(number, document["kid"], made, ECKey.import_key(parts))
    except (ValueError, KeyError, TypeError, JoseError, RecursionError) as error:
        raise StorageError(
            f"{path} is not a signing key; remove it, and a new one is made"
        ) from error


def _unusable(directory: Path, error: OSError) -> StorageError:
    return StorageError(f"signing keys in {directory}: {(error.strerror or str(error)).lower()}")
