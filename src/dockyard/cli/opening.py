"""What the commands that work on a registry's tree have in common."""

import asyncio
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from dockyard.config import ConfigurationError, Settings, load
from dockyard.errors import RegistryError


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dockyard.http.services import Services


T = TypeVar("T")

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="the registry's configuration; without it, the one that `serve` would find",
)
"""The option that says which registry is meant."""


class TreeError(click.ClickException):
    """A command could not do what it was asked; the message says why. Exits with 1."""


def read_settings(config: Path | None) -> Settings:
    """Return the settings in `config`, or in what `serve` would find.

    Raises:
        TreeError: they can't be used.
    """
    try:
        return load(config, os.environ).settings
    except ConfigurationError as error:
        raise TreeError(f"configuration error: {error}") from error


def work_on(config: Path | None, work: "Callable[[Services], Awaitable[T]]", **deed: str) -> T:
    """Do `work` with the use cases of a registry that may be serving meanwhile; return its result.

    Args:
        config: which registry.
        work: what to do.
        deed: the fields of `dockyard.server.deeds.Deed`, if the audit log is to tell of it.

    Raises:
        TreeError: the registry can't be opened, or the work failed.
    """
    settings = read_settings(config)
    from dockyard.server.deeds import Deed, noted  # noqa: PLC0415 -- mistakes are told first
    from dockyard.server.maintenance import open_services  # noqa: PLC0415 -- likewise

    async def opened() -> T:
        return await work(await open_services(settings))

    try:
        with noted(Deed(**deed), settings.audit) if deed else nullcontext():
            return asyncio.run(opened())
    except RegistryError as error:
        raise TreeError(str(error)) from error


def parse_image(text: str) -> tuple[str, str]:
    """Return the repository and the tag that ``REPOSITORY:TAG`` names.

    Raises:
        click.BadParameter: it is not of that form.
    """
    from dockyard.oci.reference import is_name, is_tag  # noqa: PLC0415 -- help needs none of it

    name, colon, tag = text.rpartition(":")
    if not colon or not is_name(name) or not is_tag(tag):
        raise click.BadParameter(
            f"{text!r} is not REPOSITORY:TAG, such as team/app:1.0 (without the registry's address)"
        )
    return name, tag
