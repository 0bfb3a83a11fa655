"""What can be wrong with a configuration, and what is worth a word though it is not.

Exception
└── ConfigurationError           the registry can't start with this; every reason is in it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from typing_extensions import override


MASK = "********"
"""What stands where a secret would."""


class FindingKind(StrEnum):
    """Why a finding is worth a word."""

    UNKNOWN = "unknown"
    """Nothing here is called so."""
    LEGACY = "legacy"
    """An old name, whose value is used."""
    IGNORED = "ignored"
    """Known and without effect."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not stop the registry, and that its operator should know.

    Attributes:
        kind: why it is worth a word.
        key: the key, or the environment variable when there is no such key.
        line: line of the file, counted from 1, if it is in the file.
        message: a sentence that can stand alone.
    """

    kind: FindingKind
    key: str
    line: int | None
    message: str

    @override
    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why the registry can't start.

    Attributes:
        key: the key as it was written; empty for the file as a whole.
        message: what is wrong and what is allowed; names the value, unless that is a secret.
        value: the value as written, masked if it is a secret; `None` if there is none.
        line: line of the file, counted from 1, if it is in the file.
        variable: the environment variable the value came from, if it came from one.
        path: the file.
    """

    key: str
    message: str
    value: str | None = None
    line: int | None = None
    variable: str | None = None
    path: Path | None = None

    @override
    def __str__(self) -> str:
        if self.variable is not None:
            where = f"environment variable {self.variable}"
        elif self.line is not None:
            where = f"{self.path}:{self.line}" if self.path else f"line {self.line}"
        else:
            where = str(self.path) if self.path else ""
        return ": ".join(part for part in (where, self.key, self.message) if part)


class ConfigurationError(Exception):
    """The configuration can't be used. Nothing was started.

    Attributes:
        problems: every reason, in the order of the file where there is one.
        findings: what else was noticed.
    """

    def __init__(self, problems: Sequence[Problem], findings: Sequence[Finding] = ()) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
        self.findings = tuple(findings)
