"""The commands ``tags history`` and ``tags rollback``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from dockyard.cli.opening import TreeError, config_option, parse_image, work_on
from dockyard.core.removals import Past
from dockyard.errors import DigestInvalidError, ManifestUnknownError
from dockyard.oci.digest import Digest


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dockyard.http.services import Services


T = TypeVar("T")


@click.group()
def tags() -> None:
    """What tags pointed to, and pointing them there again."""


@tags.command()
@click.argument("image", metavar="REPOSITORY:TAG")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@config_option
def history(image: str, *, as_json: bool, config: Path | None) -> None:
    """Print what a tag points to and once did, the newest first."""
    name, tag = parse_image(image)
    found = _of(image, config, lambda services: services.removals.history(name, tag))
    if as_json:
        click.echo(json.dumps({"name": name, "tag": tag, "history": _plain(found)}, indent=2))
        return
    for past in found:
        where = f"{past.whereabouts.value} {past.item or ''}".rstrip()
        click.echo(f"{past.moved:%Y-%m-%d %H:%M:%S}Z  {past.digest}  {where}")


@tags.command()
@click.argument("image", metavar="REPOSITORY:TAG")
@click.argument("digest", required=False)
@config_option
def rollback(image: str, digest: str | None, *, config: Path | None) -> None:
    """Point a tag to what it pointed to before, or to DIGEST."""
    name, tag = parse_image(image)
    try:
        wanted = None if digest is None else Digest.parse(digest)
    except DigestInvalidError as error:
        raise click.BadParameter(str(error)) from error
    found = _of(
        image,
        config,
        lambda services: services.removals.rollback(name, tag, wanted),
        action="rollback",
        repository=name,
        reference=tag,
    )
    click.echo(f"{name}:{tag} points to {found}")


def _of(
    image: str, config: Path | None, work: "Callable[[Services], Awaitable[T]]", **deed: str
) -> T:
    """Do `work` with a tag; where it needs what is not there, say what that is."""

    async def doing(services: "Services") -> T:
        try:
            return await work(services)
        except ManifestUnknownError as error:
            missing = f"{image} is unknown" if ":" not in error.reference else str(error)
            raise TreeError(f"{missing}; see `tags history {image}` and `trash list`") from error

    return work_on(config, doing, **deed)


def _plain(found: Sequence[Past]) -> list[dict[str, str | None]]:
    return [
        {
            "digest": str(past.digest),
            "moved": past.moved.isoformat(),
            "state": past.whereabouts.value,
            "item": past.item,
        }
        for past in found
    ]
