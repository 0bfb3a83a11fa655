"""The command ``fsck``."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Final

import click
from typing_extensions import override

from dockyard.cli.opening import TreeError, config_option, read_settings
from dockyard.core.problems import REMEDIES, Problem
from dockyard.errors import RegistryError


RATE: Final = "100M"
"""Bytes that are read in a second unless told otherwise: about half of what an ordinary disk gives,
so that pulls beside it hardly notice."""

_RATE: Final = re.compile(r"(\d+)([KMG]?)")
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Rate(click.ParamType[int]):
    """Bytes in a second: a number, with K, M or G for powers of 1024."""

    name = "rate"

    @override
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the rate that `value` writes."""
        matched = _RATE.fullmatch(str(value))
        if matched is None:
            self.fail(f"{value!r} is no rate, such as 50M; 0 is no bound", param, ctx)
        return int(matched[1]) * _UNITS[matched[2]]


class Printer:
    """Prints what a check finds as it finds it, and counts.

    Attributes:
        handled_problems: what was found, with what was done about it.
    """

    def __init__(self, *, quiet: bool, bar: bool) -> None:
        self._quiet = quiet
        self._bar = bar
        self._blobs = 0
        self._bytes = 0
        self._total = 0
        self.found_problems: Final[list[Problem]] = []
        self.handled_problems: Final[list[Problem]] = []

    @property
    def left(self) -> list[Problem]:
        """Problems that nothing was done about."""
        return [problem for problem in self.handled_problems if not problem.repaired]

    def total(self, blobs: int) -> None:
        """Note how many blobs there are."""
        self._total = blobs

    def blob(self, size: int) -> None:
        """Draw how far it is."""
        self._blobs += 1
        self._bytes += size
        if self._bar and self._blobs % 64 == 0:
            share = 100 * self._blobs // max(self._total, 1)
            drawn = "#" * (share // 5)
            click.echo(
                f"\r[{drawn:20}] {share:3} %, {self._blobs} blobs, {self._bytes >> 20} MiB",
                err=True,
                nl=False,
            )

    def repository(self, name: str) -> None:
        """Draw where it is."""
        if self._bar:
            click.echo(f"\r\x1b[K{name[:70]}", err=True, nl=False)

    def found(self, problem: Problem) -> None:
        """Print a problem."""
        self.found_problems.append(problem)
        if self._bar:
            click.echo("\r\x1b[K", err=True, nl=False)
        if not self._quiet:
            where = f"{problem.name}: " if problem.name else ""
            why = f" ({problem.detail})" if problem.detail else ""
            click.echo(f"{where}{problem.kind.value}: {problem.path}{why}")

    def handled(self, problem: Problem) -> None:
        """Print what was done."""
        self.handled_problems.append(problem)
        if problem.repaired and not self._quiet:
            click.echo(f"{problem.path}: {problem.repaired}")

    def summary(self) -> str:
        """Return the last line."""
        if self._bar:
            click.echo("\r\x1b[K", err=True, nl=False)
        found, left = len(self.handled_problems), len(self.left)
        return f"{found} problems, {found - left} repaired, {left} left"


@click.command()
@click.option("--repair", is_flag=True, help="relink what can be proved, set aside what can't")
@click.option("--verify-digests", is_flag=True, help="read all blobs, and compare their digests")
@click.option("--rate", type=Rate(), default=RATE, help="bytes to read in a second at most")
@click.option("--restart", is_flag=True, help="verify again what an interrupted run has verified")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object, and nothing else")
@config_option
def fsck(  # noqa: PLR0913 -- one for each option
    *,
    repair: bool,
    verify_digests: bool,
    rate: int,
    restart: bool,
    as_json: bool,
    config: Path | None,
) -> int:
    """Check that all blobs, links and manifests are what they should be."""
    settings = read_settings(config)
    from dockyard.server.checking import Check, check  # noqa: PLC0415 -- mistakes are told first

    wish = Check(verify=verify_digests, restart=restart, repair=repair, rate=rate)
    printer = Printer(quiet=as_json, bar=sys.stderr.isatty())
    try:
        asyncio.run(check(settings, wish, printer))
    except RegistryError as error:
        raise TreeError(str(error)) from error
    except KeyboardInterrupt:
        summary = f"stopped: {len(printer.found_problems)} problems so far"
        again = "; run it again to go on where it was" if verify_digests else ""
        click.echo(f"\n{summary}{again}", err=True)
        return 1
    summary = printer.summary()
    click.echo(_json(printer) if as_json else summary)
    for kind in dict.fromkeys(problem.kind for problem in printer.left):
        if not as_json:
            click.echo(f"{kind.value}: {REMEDIES[kind]}")
    return 1 if printer.left else 0


def _json(printer: Printer) -> str:
    problems = [
        {
            "kind": problem.kind.name.lower().replace("_", "-"),
            "path": problem.path,
            "repository": problem.name,
            "digest": problem.digest and str(problem.digest),
            "detail": problem.detail,
            "repaired": problem.repaired,
        }
        for problem in printer.handled_problems
    ]
    return json.dumps({"problems": problems, "left": len(printer.left)}, indent=2)
