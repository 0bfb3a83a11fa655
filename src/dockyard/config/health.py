"""Settings of the health checks."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator

from dockyard.config.http import FieldName
from dockyard.config.scalars import Count, Duration, Flag, SecretText, Text
from dockyard.config.section import Section


_INTERVAL: Final = timedelta(seconds=10)
_TIMEOUT: Final = timedelta(seconds=10)
"""Unlike distribution, which waits for ever: no check outlives its own interval."""


def _interval(value: timedelta) -> timedelta:
    return value or _INTERVAL


def _timeout(value: timedelta) -> timedelta:
    return value or _TIMEOUT


def _threshold(value: int) -> int:
    return value or 1


def _status(value: int) -> int:
    if value == 0:
        return 200
    if value not in range(100, 600):
        raise ValueError("must be an HTTP status, from 100 to 599")
    return value


Interval: TypeAlias = Annotated[Duration, AfterValidator(_interval)]
"""The time from one check to the next; zero is the default."""
Timeout: TypeAlias = Annotated[Duration, AfterValidator(_timeout)]
"""The longest a check may take; zero is the default."""
Threshold: TypeAlias = Annotated[Count, AfterValidator(_threshold)]
"""How many checks in a row must fail; zero is one."""


class StorageDriverCheckSettings(Section):
    """A look at the storage's root."""

    enabled: Flag = False
    interval: Interval = _INTERVAL
    threshold: Threshold = 1


class FileCheckSettings(Section):
    """A file that must not exist."""

    file: Text
    interval: Interval = _INTERVAL
    threshold: Threshold = 1


class HTTPCheckSettings(Section):
    """A URL that must answer a HEAD request."""

    uri: Text
    headers: Mapping[FieldName, tuple[SecretText, ...]] = {}
    statuscode: Annotated[Count, AfterValidator(_status)] = 200
    timeout: Timeout = _TIMEOUT
    interval: Interval = _INTERVAL
    threshold: Threshold = 1


class TCPCheckSettings(Section):
    """An address that must accept connections."""

    addr: Text
    timeout: Timeout = _TIMEOUT
    interval: Interval = _INTERVAL
    threshold: Threshold = 1


class HealthSettings(Section):
    """What must hold for the registry to call itself healthy."""

    storagedriver: StorageDriverCheckSettings = StorageDriverCheckSettings()
    file: tuple[FileCheckSettings, ...] = ()
    http: tuple[HTTPCheckSettings, ...] = ()
    tcp: tuple[TCPCheckSettings, ...] = ()
