"""Settings of the audit log: who did what, and whether they were let."""

from pathlib import PurePath
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from dockyard.config.scalars import Count, Flag, Number, OptionalText
from dockyard.config.section import Section


def _path(value: str | None) -> str | None:
    if value is not None and not PurePath(value).is_absolute():
        raise ValueError("must be an absolute path, such as /var/log/dockyard/audit.log")
    return value


def _files(value: int) -> int:
    if not 1 <= value <= 1000:  # noqa: PLR2004 -- each is renamed when the log is rotated
        raise ValueError("must be from 1 to 1000")
    return value


class AuditSettings(Section):
    """The audit log.

    Attributes:
        path: its file.
        maxsize: bytes of it, before another one is begun; 0 is no limit.
        maxfiles: how many older ones are kept.
        pulls: whether pulls of manifests are in it.
    """

    enabled: Flag = False
    path: Annotated[OptionalText, AfterValidator(_path)] = None
    maxsize: Count = 100 << 20
    maxfiles: Annotated[Number, AfterValidator(_files)] = 10
    pulls: Flag = False

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if self.enabled and self.path is None:
            raise ValueError("is enabled, but has no path: say where the audit log is to be")
        return self
