"""Changing the file of users: one change at a time, whole or not at all.

Every line that a change is not about stays as it is, byte for byte, whether it can be understood or
not. The file is replaced by a new one with its mode, owner and attributes, so that nobody reads
half of it.
"""

import errno
import fcntl
import os
import secrets
import stat
import time
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dockyard.auth.htpasswd import FILE_LIMIT
from dockyard.auth.principal import ROBOT_PREFIX
from dockyard.errors import StorageError


LOCK_SECONDS: Final = 10.0
"""How long to wait for other commands that change the file; each has it for some milliseconds."""

_PAUSE: Final = 0.02


class EditRefusedError(Exception):
    """A file of users is not changed so; the message says why, and what to do."""


def check_name(name: str) -> None:
    """Return if `name` can be that of a user.

    Raises:
        EditRefusedError: it can't.
    """
    if not name:
        raise EditRefusedError("a user needs a name: '' is none")
    reasons = {
        "begins with robot$, as only robots of access.robots do": name.startswith(ROBOT_PREFIX),
        "has a colon, which ends the name in the file, and in a login": ":" in name,
        "begins with #, as comments in the file do": name.startswith("#"),
        "begins or ends with a space": name != name.strip(),
        "has a control character, or one that is not UTF-8": any(
            unicodedata.category(letter) in {"Cc", "Cs"} for letter in name
        ),
        "is what rules call whoever does not log in": name == "anonymous",
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise EditRefusedError(f"{name!r} can't be a user's name: it {reason}")


def users(text: str) -> Sequence[str]:
    """Return the users in the file's text, each once, in its order."""
    found = (_name(line) for line in text.split("\n"))
    return list(dict.fromkeys(name for name in found if name is not None))


def broken_lines(text: str) -> Sequence[int]:
    """Return the lines, counted from 1, because of which nobody can log in."""
    return [
        number
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip() and not line.strip().startswith("#") and _name(line) is None
    ]


def add(text: str, name: str, hashed: str) -> str:
    """Return the text with one more user.

    Raises:
        EditRefusedError: there is one of this name already.
    """
    if name in users(text):
        raise EditRefusedError(f"there is a user {name!r} already; `user passwd` changes it")
    return f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{name}:{hashed}\n"


def change(text: str, name: str, hashed: str) -> str:
    """Return the text with another hash for a user, in every line that has one.

    Raises:
        EditRefusedError: there is no such user.
    """
    _require(text, name)
    lines = [
        f"{name}:{hashed}" + ("\r" if line.endswith("\r") else "") if _name(line) == name else line
        for line in text.split("\n")
    ]
    return "\n".join(lines)


def remove(text: str, name: str) -> str:
    """Return the text without a user.

    Raises:
        EditRefusedError: there is no such user.
    """
    _require(text, name)
    return "\n".join(line for line in text.split("\n") if _name(line) != name)


def read(path: Path) -> str:
    """Return the text of a file of users.

    Raises:
        StorageError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return _text(path, file.read(FILE_LIMIT + 1))
    except OSError as error:
        raise _unusable(path, "read", error) from error


def edit(path: Path, change: Callable[[str], str], *, make: bool = False) -> str:
    """Change the text of a file of users; return what it is now.

    Of several at once, one after the other has its turn. If it fails, the file is as it was.

    Args:
        path: the file; of a link, what it leads to is replaced.
        change: returns the new text; what it raises is raised.
        make: whether to begin a file if there is none, which only its owner may read.

    Raises:
        StorageError: it can't be read or replaced.
    """
    real = Path(os.path.realpath(path))
    try:
        descriptor = _locked(real, make=make)
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                before = _text(path, file.read(FILE_LIMIT + 1))
            after = change(before)
            if after != before:
                _replace(real, descriptor, after.encode("utf-8", "surrogateescape"))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unusable(path, "changed", error) from error
    return after


def _locked(path: Path, *, make: bool) -> int:
    """Return the open file that is at `path`, while nobody else may change it."""
    if make and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had the lock before may have put another file here.
            if _is_at(path, descriptor):
                return descriptor
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "another program has it locked")
        time.sleep(_PAUSE)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _replace(path: Path, old: int, content: bytes) -> None:
    status = os.fstat(old)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(new, "wb") as file:
            file.write(content)
            file.flush()
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(new, status.st_uid, status.st_gid)
            for name in os.listxattr(old):
                with suppress(OSError):  # some belong to the system, which sets them itself
                    os.setxattr(new, name, os.getxattr(old, name))
            os.fchmod(new, stat.S_IMODE(status.st_mode))
            os.fsync(new)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _name(line: str) -> str | None:
    """Return the user of a line, as `dockyard.auth.htpasswd.parse` sees it."""
    name, colon, _ = line.strip().partition(":")
    return name if colon and not name.startswith("#") else None


def _require(text: str, name: str) -> None:
    if name not in users(text):
        raise EditRefusedError(f"there is no user {name!r}; `user list` shows those that there are")


def _text(path: Path, content: bytes) -> str:
    if len(content) > FILE_LIMIT:
        raise StorageError(f"htpasswd: {path}: more than {FILE_LIMIT} bytes")
    return content.decode("utf-8", "surrogateescape")


def _unusable(path: Path, what: str, error: OSError) -> StorageError:
    reason = (error.strerror or str(error)).lower()
    remedy = ""
    if error.errno == errno.EBUSY:
        remedy = " (it is mounted by itself, so it can't be replaced: mount its directory instead)"
    elif isinstance(error, PermissionError):
        remedy = " (do it as the owner of the file and its directory, or as root)"
    elif error.errno == errno.EROFS:
        remedy = " (do it where the file system can be written)"
    return StorageError(f"htpasswd: {path} can't be {what}: {reason}{remedy}")
