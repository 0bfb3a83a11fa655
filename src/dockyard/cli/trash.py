"""The commands ``trash list``, ``trash restore`` and ``trash empty``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.opening import TreeError, config_option, work_on
from dockyard.core.trash import Item
from dockyard.errors import ItemUnknownError


if TYPE_CHECKING:
    from dockyard.http.services import Services


@click.group()
def trash() -> None:
    """What was removed from repositories and can be restored."""


@trash.command("list")
@click.argument("repository", required=False)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@config_option
def list_items(repository: str | None, *, as_json: bool, config: Path | None) -> None:
    """Print what was removed, from REPOSITORY or from all, the oldest first."""
    found = work_on(config, lambda services: services.removals.items(repository))
    if as_json:
        click.echo(json.dumps({"items": [_plain(item) for item in found]}, indent=2))
        return
    for item in found:
        click.echo(f"{item.identifier}  {item.name}  {_described(item)}")


@trash.command()
@click.argument("item")
@config_option
def restore(item: str, *, config: Path | None) -> int:
    """Bring ITEM back to where it was."""
    restored = work_on(
        config, lambda services: services.removals.restore(item), action="restore", item=item
    )
    for tag in restored.tags:
        click.echo(f"{restored.name}:{tag} is back")
    for digest in restored.manifests:
        click.echo(f"{restored.name}@{digest} is back")
    for tag in restored.taken:
        click.echo(
            f"{restored.name}:{tag} was set again meanwhile and stays as it is; "
            f"see `tags history {restored.name}:{tag}`"
        )
    for digest, why in restored.incomplete.items():
        click.echo(f"{restored.name}@{digest} stays in the trash: {why}", err=True)
    return 1 if restored.incomplete else 0


@trash.command()
@click.argument("items", metavar="ITEM", nargs=-1)
@click.option("--all", "every", is_flag=True, help="everything that is in the trash")
@config_option
def empty(items: tuple[str, ...], *, every: bool, config: Path | None) -> None:
    """Destroy each ITEM; the room is free after the next collection."""
    if bool(items) is every:
        raise click.UsageError("name the items to destroy, or say --all")

    async def destroy(services: "Services") -> list[str]:
        names = items or [item.identifier for item in await services.removals.items()]
        missing = []
        for name in names:
            try:
                await services.removals.destroy(name)
            except ItemUnknownError as error:
                missing.append(str(error))
            else:
                click.echo(f"{name} is destroyed")
        return missing

    missing = work_on(config, destroy, action="destroy", item=" ".join(items) or "all")
    if missing:
        raise TreeError("\n".join(missing))


def _described(item: Item) -> str:
    parts = [f"tag {tag}" for tag in item.tags]
    parts += [f"manifest {digest}" for digest in item.manifests if len(item.manifests) == 1]
    if len(item.manifests) > 1:
        parts.append(f"{len(item.manifests)} manifests")
    if item.blobs:
        parts.append(f"{len(item.blobs)} links to blobs")
    return ", ".join(parts)


def _plain(item: Item) -> dict[str, object]:
    return {
        "id": item.identifier,
        "repository": item.name,
        "removed": item.removed.isoformat(),
        "tags": {tag: digest and str(digest) for tag, digest in item.tags.items()},
        "manifests": [str(digest) for digest in item.manifests],
        "blobs": len(item.blobs),
    }
