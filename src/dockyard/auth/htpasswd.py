"""The file of users and the hashes of their passwords, as docker-distribution reads it.

Lines are ``NAME:HASH``; what begins with ``#`` is a comment; of two lines with one name the last
counts. Only bcrypt is known: a line with another hash is there, and no password opens it.

Source: distribution v3.1.1, registry/auth/htpasswd; golang.org/x/crypto/bcrypt for the hash.
"""

import base64
import os
import re
import secrets
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

import bcrypt
import structlog

from dockyard.errors import StorageError


DEFAULT_USER: Final = "docker"
"""The user of a file that was made because there was none. Source: distribution."""

DEFAULT_COST: Final = 10
"""The cost of the hashes made here: Go's ``bcrypt.DefaultCost``, about 50 ms."""

HIGHEST_COST: Final = 17
"""The highest cost of a hash that is tried, about ten seconds; a higher one would occupy the
thread that hashes for minutes to days."""

FILE_LIMIT: Final = 16 << 20
"""Bytes of a password file, at most: 200 000 users."""

PASSWORD_LIMIT: Final = 72
"""Bytes of a password that bcrypt looks at; Go's ignores the rest."""

_BASE64: Final = "./" + string.ascii_uppercase + string.ascii_lowercase + string.digits
_HASH: Final = re.compile(
    r"\$2[a-z]?\$(?P<cost>[0-9]{2})\$(?P<salt>[./A-Za-z0-9]{22})(?P<hash>[./A-Za-z0-9]{31}).*",
    re.DOTALL,
)
_COSTS: Final = range(4, HIGHEST_COST + 1)

Mark: TypeAlias = tuple[int, int, int]
"""Tells one state of a file from another: time of change, size, inode."""


class HtpasswdInvalidError(StorageError):
    """A password file can't be used: nobody can log in until it is put right.

    Attributes:
        path: the file.
        line: the line, counted from 1; 0 if it is the file as a whole.
    """

    def __init__(self, path: str, line: int, reason: str) -> None:
        where = f"{path}, line {line}" if line else path
        super().__init__(f"htpasswd: {where}: {reason}")
        self.path = path
        self.line = line


def parse(text: str, path: str = "") -> Mapping[str, str]:
    """Return the hash of each user.

    Raises:
        HtpasswdInvalidError: a line is neither a comment nor ``NAME:HASH``. It is not repeated in
            the message: it may be a password.
    """
    entries: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, hashed = line.partition(":")
        if not colon:
            raise HtpasswdInvalidError(path, number, "invalid entry, expected NAME:HASH")
        entries[name] = hashed
    return entries


def normalise(hashed: str) -> bytes | None:
    """Return a bcrypt hash as the library wants it, or `None` if Go would not take it.

    Go looks neither at the letter of the version, nor at what follows the hash, nor at the last
    four bits of the salt, which mean nothing.
    """
    match = _HASH.fullmatch(hashed)
    if match is None or int(match["cost"]) not in _COSTS:
        return None
    salt = match["salt"]
    last = _BASE64[_BASE64.index(salt[-1]) & ~0xF]
    return f"$2b${match['cost']}${salt[:-1]}{last}{match['hash']}".encode()


def matches(password: str, hashed: str | None) -> bool:
    """Return whether `password` is the one that was hashed.

    Without a usable hash it takes as long, so that time does not tell who has an account. This
    blocks for about 50 ms.
    """
    usable = normalise(hashed) if hashed is not None else None
    secret = password.encode("utf-8", "surrogateescape")[:PASSWORD_LIMIT]
    try:
        return bcrypt.checkpw(secret, usable or _DUMMY) and usable is not None
    except ValueError:  # what bcrypt can't hash is nobody's password
        return False


_DUMMY: Final = f"$2b${DEFAULT_COST}${'.' * 53}".encode()


def hash_password(password: str) -> str:
    """Return the hash of a password for a line of the file.

    Raises:
        ValueError: bcrypt would ignore a part of it.
    """
    secret = password.encode()
    if len(secret) > PASSWORD_LIMIT:
        raise ValueError(f"a password may have at most {PASSWORD_LIMIT} bytes")
    return bcrypt.hashpw(secret, bcrypt.gensalt(DEFAULT_COST)).decode()


def provision(path: Path) -> None:
    """Make the file with one user and a random password, which is logged once, if it is missing.

    Raises:
        OSError: it can't be made.
    """
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    # By a link: of several workers one makes it, and nobody reads half of it.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{DEFAULT_USER}:{hash_password(password)}")
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()
    structlog.get_logger().warning(
        "htpasswd is missing, provisioning with default user", user=DEFAULT_USER, password=password
    )


class HtpasswdFile:
    """The users of a file, read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._mark: Mark | None = None
        self._entries: Mapping[str, str] = {}
        self._fault: HtpasswdInvalidError | None = None

    def find(self, name: str) -> str | None:
        """Return the hash of a user, or `None` if there is no such user.

        Raises:
            HtpasswdInvalidError: the file can't be used as it is now.
        """
        try:
            status = self._path.stat()
        except OSError as error:
            reason = error.strerror or str(error)
            raise HtpasswdInvalidError(str(self._path), 0, reason.lower()) from error
        mark = (status.st_mtime_ns, status.st_size, status.st_ino)
        if mark != self._mark:
            self._read()
            self._mark = mark
        if self._fault is not None:
            raise self._fault
        return self._entries.get(name)

    def _read(self) -> None:
        # What was read before is forgotten first: who was taken out must not stay because of a
        # mistake in another line.
        self._entries, self._fault = {}, None
        path = str(self._path)
        try:
            with self._path.open("rb") as file:
                content = file.read(FILE_LIMIT + 1)
            if len(content) > FILE_LIMIT:
                raise HtpasswdInvalidError(path, 0, f"more than {FILE_LIMIT} bytes")  # noqa: TRY301
            self._entries = parse(content.decode("utf-8", "surrogateescape"), path)
        except OSError as error:
            reason = error.strerror or str(error)
            self._fault = HtpasswdInvalidError(path, 0, reason.lower())
        except HtpasswdInvalidError as error:
            self._fault = error
