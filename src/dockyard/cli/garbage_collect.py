"""The command ``garbage-collect``: docker-distribution's, line for line."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from dockyard.config import ConfigurationError, load
from dockyard.core.collector import Collected
from dockyard.errors import RegistryError
from dockyard.oci.digest import Digest


class Printer:
    """Prints what distribution prints, as it is found. Source: distribution v3.1.1, storage/gc."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def repository(self, name: str) -> None:
        """Print the name of a repository."""
        self._print(name)

    def manifest(self, name: str, digest: Digest) -> None:
        """Print that a manifest is kept; the space at the end is distribution's."""
        self._print(f"{name}: marking manifest {digest} ")

    def blob(self, name: str, digest: Digest) -> None:
        """Print that a blob is kept."""
        self._print(f"{name}: marking blob {digest}")

    def untagged(self, name: str, digest: Digest, tags: Sequence[str]) -> None:
        """Print that a manifest goes, with the tags of its repository."""
        self._print(f"manifest eligible for deletion: {{{name} {digest} [{' '.join(tags)}]}}")

    def tagless(self, name: str) -> None:
        """Print that a repository has no directory of tags."""
        self._print(f"manifest tags path of repository {name} does not exist")

    def doubt(self, path: str, reason: str) -> None:
        """Print, on standard error, what can't be read."""
        click.echo(f"can't read {path}: {reason}; all that it might need is kept", err=True)

    def summary(self, marked: int, blobs: int, manifests: int) -> None:
        """Print the counts."""
        self._print(
            f"\n{marked} blobs marked, {blobs} blobs and {manifests} manifests eligible for deletion"
        )

    def goes(self, digest: Digest, size: int) -> None:
        """Print that a blob goes."""
        del size
        self._print(f"blob eligible for deletion: {digest}")

    def unlinks(self, name: str, digest: Digest) -> None:
        """Print that a repository's link to a blob goes."""
        self._print(f"{name}: layer link eligible for deletion: {digest}")

    def _print(self, line: str) -> None:
        if not self._quiet:
            click.echo(line)


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
@click.pass_context
def garbage_collect(
    context: click.Context,
    config: Path | None,
    *,
    dry_run: bool,
    delete_untagged: bool,
    quiet: bool,
) -> int:
    """`garbage-collect` deletes layers not referenced by any manifests."""
    try:
        loaded = load(config, os.environ)
    except ConfigurationError as error:
        click.echo(f"configuration error: {error}", err=True)
        click.echo(context.get_usage(), err=True)
        return 1
    from dockyard.server.maintenance import collect  # noqa: PLC0415 -- mistakes are told first

    try:
        collected = asyncio.run(
            collect(
                loaded.settings,
                Printer(quiet=quiet),
                dry_run=dry_run,
                delete_untagged=delete_untagged,
            )
        )
    except RegistryError as error:
        click.echo(f"failed to garbage collect: {error}", err=True)
        return 1
    return report(collected, dry_run=dry_run, quiet=quiet)


def report(collected: Collected, *, dry_run: bool, quiet: bool) -> int:
    """Print, on standard error, what distribution doesn't tell; return the exit status."""
    if not quiet and (dry_run or sys.stderr.isatty()):
        verb = "would be" if dry_run else "were"
        click.echo(f"{collected.freed} bytes {verb} freed", err=True)
    if collected.doubts:
        click.echo(
            f"{len(collected.doubts)} paths could not be read; what they might need was kept",
            err=True,
        )
        return 1
    return 0
