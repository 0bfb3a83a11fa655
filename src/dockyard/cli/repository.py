"""The command ``repository delete``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.opening import TreeError, config_option, work_on
from dockyard.errors import RepositoryUnknownError
from dockyard.oci.reference import is_name


if TYPE_CHECKING:
    from dockyard.http.services import Services


@click.group()
def repository() -> None:
    """Repositories as a whole."""


@repository.command()
@click.argument("name")
@config_option
def delete(name: str, *, config: Path | None) -> None:
    """Move the repository NAME to the trash; those below it, such as NAME/other, stay."""
    if not is_name(name):
        raise click.BadParameter(
            f"{name!r} is no repository's name, such as team/app (without the registry's address)"
        )

    async def remove(services: "Services") -> None:
        try:
            await services.removals.remove_repository(name)
        except RepositoryUnknownError as error:
            raise TreeError(f"there is no repository {name}") from error

    work_on(config, remove, action="delete-repository", repository=name)
    click.echo(f"{name} is deleted; its room is free after a collection")
