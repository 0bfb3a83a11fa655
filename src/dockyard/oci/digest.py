"""The address of content."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from typing_extensions import override

from dockyard.errors import DigestInvalidError


HEX_LENGTH: Final = {"sha256": 64, "sha512": 128}
"""Characters of hash, by algorithm. Source: OCI Image Spec, descriptor.md#registered-algorithms."""

DEFAULT_ALGORITHM: Final = "sha256"

_GRAMMAR: Final = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A hash algorithm and the hash of some bytes.

    A `Digest` is always well formed: text becomes one only through `parse`, bytes only
    through `of`. Code that holds one never validates again.

    Attributes:
        algorithm: ``sha256`` or ``sha512``.
        hex: the hash, in lower-case hexadecimal.
    """

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest written in `text`, such as ``sha256:9f86d0…``.

        Narrower than the spec's grammar on purpose: a digest we cannot verify is refused
        here rather than stored unverified.

        Raises:
            DigestInvalidError: `text` is not ``algorithm:hex`` or the hash is the wrong length.
        """
        if _GRAMMAR.fullmatch(text) is None:
            raise DigestInvalidError(text)
        return cls(text[:6], text[7:])

    @classmethod
    def of(cls, content: bytes, algorithm: str = DEFAULT_ALGORITHM) -> Self:
        """Return the digest of `content`."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    @override
    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Hasher:
    """The digest of bytes that arrive in pieces.

    Attributes:
        algorithm: as in `Digest`.
        size: bytes taken in so far.
    """

    __slots__ = ("_hash", "algorithm", "size")

    def __init__(self, algorithm: str = DEFAULT_ALGORITHM) -> None:
        if algorithm not in HEX_LENGTH:
            raise DigestInvalidError(f"{algorithm}:")
        self.algorithm: Final = algorithm
        self.size = 0
        self._hash: Final = hashlib.new(algorithm)

    def update(self, chunk: bytes | memoryview) -> None:
        """Take in `chunk`."""
        self._hash.update(chunk)
        self.size += len(chunk)

    def digest(self) -> Digest:
        """Return the digest of all bytes taken in so far."""
        return Digest(self.algorithm, self._hash.hexdigest())
