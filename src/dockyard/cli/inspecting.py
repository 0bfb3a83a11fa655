"""What the commands share that look at a storage: configuration, failures, doubts, sizes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import click

from dockyard.cli.opening import read_settings
from dockyard.config import Settings
from dockyard.errors import RegistryError


T = TypeVar("T")

UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def look(config: Path | None, question: Callable[[Settings], Awaitable[T]]) -> T:
    """Return the answer to a question about the storage of a configuration.

    Raises:
        click.ClickException: the configuration can't be used, or there is no answer.
    """
    settings = read_settings(config)

    async def ask() -> T:
        return await question(settings)

    try:
        return asyncio.run(ask())
    except RegistryError as error:
        raise click.ClickException(str(error)) from error


def tell_doubts(doubts: Mapping[str, str], *, is_partial: bool) -> int:
    """Print, on standard error, what can't be read; return the exit status."""
    for path, reason in doubts.items():
        click.echo(f"can't read {path}: {reason}", err=True)
    if is_partial:
        click.echo("a directory can't be listed: until it can, nothing is collected", err=True)
    elif doubts:
        click.echo("what these might need is kept: push it again, or delete it", err=True)
    return 1 if doubts else 0


def doubts_json(doubts: Mapping[str, str]) -> list[dict[str, str]]:
    """Return what can't be read as a part of a JSON object."""
    return [{"path": path, "reason": reason} for path, reason in doubts.items()]


def human(size: int) -> str:
    """Return a size in bytes as people read it, such as ``1.5 MiB``."""
    amount, unit = float(size), 0
    while amount >= 1023.95 and unit < len(UNITS) - 1:  # noqa: PLR2004 -- 1024.0 in one digit
        amount, unit = amount / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{amount:.1f} {UNITS[unit]}"
