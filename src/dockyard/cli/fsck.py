"""The command ``fsck``."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from typing_extensions import override

from dockyard.cli.opening import TreeError, config_option, read_settings
from dockyard.config import Settings
from dockyard.core.problems import REMEDIES, Kind, Problem
from dockyard.errors import RegistryError
from dockyard.oci.digest import Digest


if TYPE_CHECKING:
    from dockyard.server.checking import Check


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
        handled_problems: what was found and is done with, with what was done about it.
        waiting: what was found and is not done with.
        sizes: how many sizes of blobs were noted.
    """

    def __init__(self, *, quiet: bool, bar: bool) -> None:
        self._quiet = quiet
        self._bar = bar
        self._blobs = 0
        self._bytes = 0
        self._total = 0
        self.handled_problems: Final[list[Problem]] = []
        self.waiting: Final[dict[tuple[Kind, str], Problem]] = {}
        self.sizes = 0

    @property
    def left(self) -> list[Problem]:
        """Problems that nothing was done about."""
        done = [problem for problem in self.handled_problems if not problem.repaired]
        return [*done, *self.waiting.values()]

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
            click.echo(f"\r\x1b[K{shown(name)[:70]}", err=True, nl=False)

    def resumed(self, cursor: Digest) -> None:
        """Say that it goes on where an interrupted one was."""
        self._clear()
        said = f"going on after {cursor}, where it was interrupted; --restart begins anew"
        click.echo(said, err=True)

    def found(self, problem: Problem) -> None:
        """Print a problem."""
        self.waiting[problem.kind, problem.path] = problem
        where = f"{problem.name}: " if problem.name else ""
        why = f" ({problem.detail})" if problem.detail else ""
        self._print(f"{where}{problem.kind.value}: {problem.path}{why}")

    def handled(self, problem: Problem) -> None:
        """Print what was done."""
        self.waiting.pop((problem.kind, problem.path), None)
        self.handled_problems.append(problem)
        if problem.repaired:
            self._print(f"{problem.path}: {problem.repaired}")

    def failed(self, problem: Problem, reason: str) -> None:
        """Print, on standard error, why a problem was not repaired."""
        self._clear()
        click.echo(shown(f"{problem.path}: not repaired: {reason}"), err=True)

    def noted(self, sizes: int) -> None:
        """Keep how many sizes were noted."""
        self.sizes = sizes

    def summary(self) -> str:
        """Return the last line."""
        self._clear()
        left = len(self.left)
        found = len(self.handled_problems) + len(self.waiting)
        noted = f"; {self.sizes} sizes noted" if self.sizes else ""
        return f"{found} problems, {found - left} repaired, {left} left{noted}"

    def render(self, *, interrupted: bool) -> str:
        """Return what was found and done, as a JSON object."""
        problems = [
            {
                "kind": problem.kind.name.lower().replace("_", "-"),
                "path": problem.path,
                "repository": problem.name,
                "tag": problem.tag,
                "digest": problem.digest and str(problem.digest),
                "detail": problem.detail,
                "repaired": problem.repaired,
            }
            for problem in (*self.handled_problems, *self.waiting.values())
        ]
        document = {
            "interrupted": interrupted,
            "problems": problems,
            "left": len(self.left),
            "noted": self.sizes,
        }
        return json.dumps(document, indent=2)

    def _print(self, line: str) -> None:
        self._clear()
        if not self._quiet:
            click.echo(shown(line))

    def _clear(self) -> None:
        if self._bar:
            click.echo("\r\x1b[K", err=True, nl=False)


def shown(text: str) -> str:
    """Return `text` with what is not printable escaped: a directory may be called anything."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _repair(settings: Settings, wish: "Check", printer: Printer) -> None:
    """Check and repair; that is told in the audit log, as far as it came."""
    from dockyard.server.checking import check  # noqa: PLC0415 -- mistakes are told first
    from dockyard.server.deeds import REPAIR, Deed, noted  # noqa: PLC0415 -- likewise

    with noted(Deed(action=REPAIR), settings.audit) as counts:
        try:
            asyncio.run(check(settings, wish, printer))
        finally:
            left = len(printer.left)
            counts["repaired"] = len(printer.handled_problems) + len(printer.waiting) - left
            counts["left"] = left


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
    interrupted = False
    try:
        if repair:
            _repair(settings, wish, printer)
        else:
            asyncio.run(check(settings, wish, printer))
    except RegistryError as error:
        raise TreeError(str(error)) from error
    except KeyboardInterrupt:
        interrupted = True
    summary = printer.summary()
    if as_json:
        click.echo(printer.render(interrupted=interrupted))
    elif interrupted:
        again = "; run it again to go on where it was" if verify_digests else ""
        click.echo(f"stopped{again}: {summary}")
    else:
        click.echo(summary)
        for kind in dict.fromkeys(problem.kind for problem in printer.left):
            click.echo(f"{kind.value}: {REMEDIES[kind]}")
    return 1 if interrupted or printer.left else 0
