"""The command ``garbage-collect``: docker-distribution's, line for line."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dockyard.config import ConfigurationError, Settings, load
from dockyard.core.collector import Collected
from dockyard.errors import RegistryError
from dockyard.oci.digest import Digest


if TYPE_CHECKING:
    from dockyard.server.collecting import Wish


REDRAWN: Final = 0.1
"""Seconds between two states of the counter on a terminal: faster can't be read."""


class Printer:
    """Prints what distribution prints, in its order. Source: distribution v3.1.1, storage/gc.

    Standard output has the lines, unless `quiet`. Standard error has what can't be read and, if
    `counts`, how far marking is. Who stops reading the lines (``| head``) does not stop the
    collection.

    Attributes:
        marked: how many blobs are kept, once that is known.
        doubts: what can't be read, and why.
    """

    def __init__(self, *, quiet: bool, counts: bool) -> None:
        self._quiet = quiet
        self._counter: Final = Counter() if counts else None
        self._untagged: Final[list[str]] = []
        self.marked: int | None = None
        self.doubts: Final[list[tuple[str, str]]] = []

    def repository(self, name: str) -> None:
        """Print the name of a repository."""
        self._print(name)

    def manifest(self, name: str, digest: Digest) -> None:
        """Print that a manifest is kept; the space at the end is distribution's."""
        self._mark(f"{name}: marking manifest {digest} ")

    def blob(self, name: str, digest: Digest) -> None:
        """Print that a blob is kept."""
        self._mark(f"{name}: marking blob {digest}")

    def untagged(self, name: str, digest: Digest, tags: Sequence[str]) -> None:
        """Print, before the counts, that a manifest goes, with the tags of its repository."""
        self._untagged.append(
            f"manifest eligible for deletion: {{{name} {digest} [{' '.join(tags)}]}}"
        )

    def tagless(self, name: str) -> None:
        """Print that a repository has no directory of tags."""
        self._print(f"manifest tags path of repository {name} does not exist")

    def doubt(self, path: str, reason: str) -> None:
        """Print, on standard error, what can't be read."""
        if (path, reason) in self.doubts:
            return  # looked at twice
        self.doubts.append((path, reason))
        self._clear()
        click.echo(f"can't read {path}: {reason}; all that it might need is kept", err=True)

    def summary(self, marked: int, blobs: int, manifests: int) -> None:
        """Print the manifests that go, and the counts."""
        self._clear()
        self.marked = marked
        for line in self._untagged:
            self._print(line)
        self._print(
            f"\n{marked} blobs marked, "
            f"{blobs} blobs and {manifests} manifests eligible for deletion"
        )

    def goes(self, digest: Digest, size: int) -> None:
        """Print that a blob goes."""
        del size
        self._print(f"blob eligible for deletion: {digest}")

    def unlinks(self, name: str, digest: Digest) -> None:
        """Print that a repository's link to a blob goes."""
        self._print(f"{name}: layer link eligible for deletion: {digest}")

    def _mark(self, line: str) -> None:
        if self.marked is not None:
            return  # found by the second look: distribution has none, so no line for it
        if self._counter is not None:
            self._counter.count()
        self._print(line)

    def _clear(self) -> None:
        if self._counter is not None:
            self._counter.clear()

    def _print(self, line: str) -> None:
        if self._quiet:
            return
        try:
            sys.stdout.write(f"{line}\n")  # a hundred thousand lines: `click.echo` flushes each
        except BrokenPipeError:
            self._give_up()

    def flush(self) -> None:
        """Hand on what was printed."""
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            self._give_up()

    def _give_up(self) -> None:
        self._quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Counter:
    """A line on a terminal that counts what is marked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._marked = 0
        self._drawn = 0.0

    def count(self) -> None:
        """Count one more."""
        self._marked += 1
        now = self._clock()
        if now - self._drawn >= REDRAWN:
            self._drawn = now
            click.echo(f"\r{self._marked} manifests and blobs marked", err=True, nl=False)

    def clear(self) -> None:
        """Make the line empty, for what comes next."""
        if self._drawn:
            self._drawn = 0.0
            click.echo("\r\x1b[K", err=True, nl=False)


@click.command("garbage-collect")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("-d", "--dry-run", is_flag=True, help="do everything except remove the blobs")
@click.option(
    "-m",
    "--delete-untagged",
    is_flag=True,
    help="delete manifests that are not currently referenced via tag",
)
@click.option("-q", "--quiet", is_flag=True, help="silence output")
@click.option(
    "--json", "as_json", is_flag=True, help="print what goes as one JSON object, and nothing else"
)
@click.option(
    "--keep-trash",
    is_flag=True,
    help="keep what can be restored, as long as storage.maintenance says",
)
@click.pass_context
def garbage_collect(  # noqa: PLR0913 -- one for each option of distribution's command, and ours
    context: click.Context,
    config: Path | None,
    *,
    dry_run: bool,
    delete_untagged: bool,
    quiet: bool,
    as_json: bool,
    keep_trash: bool,
) -> int:
    """`garbage-collect` deletes layers not referenced by any manifests."""
    try:
        loaded = load(config, os.environ)
    except ConfigurationError as error:
        click.echo(f"configuration error: {error}", err=True)
        click.echo(context.get_usage(), err=True)
        return 1
    from dockyard.server.collecting import Wish  # noqa: PLC0415 -- mistakes are told first

    silent = quiet or as_json
    seen = sys.stdout.isatty() and not silent
    printer = Printer(quiet=silent, counts=sys.stderr.isatty() and not seen)
    try:
        wish = Wish(dry_run=dry_run, delete_untagged=delete_untagged, keep_trash=keep_trash)
        collected = _collect(loaded.settings, printer, wish)
    except RegistryError as error:
        phase = "failed to mark: " if printer.marked is None else ""
        click.echo(f"failed to garbage collect: {phase}{error}", err=True)
        return 1
    finally:
        printer.flush()
    if as_json and not quiet:
        click.echo(render(collected, printer, dry_run=dry_run, delete_untagged=delete_untagged))
    return report(collected, dry_run=dry_run, quiet=quiet)


def _collect(settings: Settings, printer: Printer, wish: "Wish") -> Collected:
    """Collect once; what that has changed is told in the audit log."""
    from dockyard.http.audit import COLLECT  # noqa: PLC0415 -- mistakes are told first
    from dockyard.server.collecting import counts_of  # noqa: PLC0415 -- likewise
    from dockyard.server.deeds import Deed, noted  # noqa: PLC0415 -- likewise
    from dockyard.server.maintenance import collect  # noqa: PLC0415 -- likewise

    if wish.dry_run:
        return asyncio.run(collect(settings, printer, wish))
    with noted(Deed(action=COLLECT), settings.audit) as counts:
        collected = asyncio.run(collect(settings, printer, wish))
        counts.update(counts_of(collected))
    return collected


def render(collected: Collected, printer: Printer, *, dry_run: bool, delete_untagged: bool) -> str:
    """Return what a collection did, or would do, as a JSON object."""
    document = {
        "dryRun": dry_run,
        "deleteUntagged": delete_untagged,
        "marked": printer.marked,
        "blobs": [
            {"digest": str(digest), "size": size} for digest, size in collected.blobs.items()
        ],
        "manifests": _named(collected.manifests),
        "links": _named(collected.links),
        "spared": [str(digest) for digest in collected.spared],
        "expired": list(collected.expired),
        "doubts": [{"path": path, "reason": reason} for path, reason in printer.doubts],
        "freed": collected.freed,
    }
    return json.dumps(document, indent=2)


def _named(pairs: Sequence[tuple[str, Digest]]) -> list[dict[str, str]]:
    return [{"repository": name, "digest": str(digest)} for name, digest in pairs]


def report(collected: Collected, *, dry_run: bool, quiet: bool) -> int:
    """Print, on standard error, what distribution doesn't tell; return the exit status."""
    if not quiet and (dry_run or sys.stderr.isatty()):
        verb = "would be" if dry_run else "were"
        click.echo(f"{collected.freed} bytes {verb} freed", err=True)
    if not quiet and collected.spared:
        click.echo(f"{len(collected.spared)} blobs were needed after all, and kept", err=True)
    if collected.doubts:
        click.echo(
            f"{len(set(collected.doubts))} paths could not be read; what they might need was kept",
            err=True,
        )
        return 1
    return 0
