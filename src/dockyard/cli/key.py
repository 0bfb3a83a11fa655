"""The commands ``key create``, ``key list`` and ``key revoke``: API keys."""

import asyncio
import json
import re
import shlex
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from dockyard.cli.opening import TreeError, config_option, read_settings
from dockyard.config import Settings
from dockyard.config.durations import DurationInvalidError, parse
from dockyard.errors import RegistryError


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dockyard.core.keys import Keys
    from dockyard.state.interface import KeyRecord


T = TypeVar("T")

_DAYS: Final = re.compile(r"([0-9]{1,6})d")


@click.group()
def key() -> None:
    """API keys: passwords for programs, which may less than their owners."""


@key.command()
@click.argument("name")
@click.option("--owner", required=True, help="who it stands for: a user, or robot$NAME")
@click.option(
    "--action",
    "actions",
    multiple=True,
    help="what it is good for: pull, push, delete, catalog, admin; repeatable. All without it",
)
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    metavar="PATTERN",
    help="where, such as 'team/**'; repeatable. Everywhere without it",
)
@click.option("--expires", metavar="WHEN", help="in 90d or 12h, or at 2027-01-31T12:00Z")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@config_option
def create(  # noqa: PLR0913 -- the options
    name: str,
    owner: str,
    actions: tuple[str, ...],
    repositories: tuple[str, ...],
    expires: str | None,
    *,
    as_json: bool,
    config: Path | None,
) -> None:
    """Make the key NAME and print its secret, which is shown this once."""
    settings = read_settings(config)
    from dockyard.clock import utc_now  # noqa: PLC0415 -- mistakes are told first
    from dockyard.core.keys import KeyWish  # noqa: PLC0415 -- likewise

    wish = KeyWish(
        name=name,
        owner=owner,
        actions=actions or ("*",),
        repositories=repositories or ("**",),
        expires=None if expires is None else parse_when(expires, utc_now()),
    )
    secret, made = _do(settings, lambda keys: keys.create(wish), action="create-key", item=name)
    if as_json:
        click.echo(json.dumps({**_plain(made), "secret": secret}, indent=2))
        return
    click.echo(secret)
    login = f"docker login --username {shlex.quote(owner)} --password-stdin REGISTRY"
    click.echo(f"This is shown only now. To log in with it: {login}", err=True)


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@config_option
def list_keys(*, as_json: bool, config: Path | None) -> None:
    """Print the keys by name; nobody can tell their secrets."""
    settings = read_settings(config)

    async def described(keys: "Keys") -> "list[tuple[KeyRecord, str]]":
        return [(each, keys.why_useless(each)) for each in await keys.list()]

    found = [] if _is_missing(settings) else _do(settings, described)
    if as_json:
        plain = [{**_plain(each), "useless": why or None} for each, why in found]
        click.echo(json.dumps({"keys": plain}, indent=2))
        return
    for each, why in found:
        actions, where = ",".join(each.actions), " ".join(each.repositories)
        used = f"used {_day(each.used)}" if each.used else "never used"
        ends = f"expires {_day(each.expires)}" if each.expires else "does not expire"
        line = f"{each.name}  {each.owner}  {actions} {where}  {used}, {why or ends}"
        click.echo(line)


@key.command()
@click.argument("names", metavar="NAME", nargs=-1, required=True)
@config_option
def revoke(names: tuple[str, ...], *, config: Path | None) -> None:
    """Revoke each key NAME, and with it the tokens that it got."""
    settings = read_settings(config)

    async def work(keys: "Keys") -> list[str]:
        missing = []
        for name in names:
            try:
                await keys.revoke(name)
            except RegistryError as error:
                missing.append(str(error))
            else:
                click.echo(f"{name} is revoked")
        return missing

    if _is_missing(settings):
        raise TreeError(f"there is no key {names[0]!r}")
    missing = _do(settings, work, action="revoke-key", item=" ".join(names))
    if missing:
        raise TreeError("\n".join(missing))


def parse_when(text: str, now: datetime) -> datetime:
    """Return the moment that `text` means: a time from `now` on, or a time of its own.

    Raises:
        click.BadParameter: it means none.
    """
    days = _DAYS.fullmatch(text)
    try:
        if days is not None:
            return now + timedelta(days=int(days[1]))
        try:
            return now + parse(text)
        except DurationInvalidError:
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"--expires: {text!r} is neither a time from now on, such as 90d or 12h, nor a time, "
            "such as 2027-01-31 or 2027-01-31T12:00Z"
        ) from error


def _is_missing(settings: Settings) -> bool:
    """Return whether there is no state database; say so."""
    from dockyard.server.maintenance import missing_state  # noqa: PLC0415 -- mistakes first

    try:
        path = missing_state(settings)
    except RegistryError as error:
        raise TreeError(str(error)) from error
    if path:
        click.echo(f"there is no state database {path}, and so no key", err=True)
    return bool(path)


def _do(settings: Settings, work: "Callable[[Keys], Awaitable[T]]", **deed: str) -> T:
    """Do `work` with the keys of a registry that may be serving meanwhile; return its result.

    The `deed` is what the audit log is told, see `work_on`.
    """
    from dockyard.server.deeds import Deed, noted  # noqa: PLC0415 -- mistakes are told first
    from dockyard.server.maintenance import open_keys  # noqa: PLC0415 -- likewise

    async def opened() -> T:
        keys = open_keys(settings)
        try:
            return await work(keys)
        finally:
            await keys.close()

    try:
        with noted(Deed(**deed), settings.audit) if deed else nullcontext():
            return asyncio.run(opened())
    except RegistryError as error:
        raise TreeError(str(error)) from error


def _plain(each: "KeyRecord") -> dict[str, object]:
    return {
        "name": each.name,
        "owner": each.owner,
        "actions": list(each.actions),
        "repositories": list(each.repositories),
        "created": _told(each.created),
        "expires": _told(each.expires),
        "used": _told(each.used),
    }


def _told(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"
