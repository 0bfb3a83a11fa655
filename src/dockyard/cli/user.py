"""The commands ``user add``, ``passwd``, ``remove`` and ``list``: the file of users."""

import json
import sys
import unicodedata
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import click

from dockyard.auth import editing
from dockyard.auth.accounts import groups_of
from dockyard.auth.editing import EditRefusedError
from dockyard.auth.htpasswd import hash_password, normalise, parse
from dockyard.cli.opening import TreeError, config_option, read_settings
from dockyard.config import Settings
from dockyard.errors import StorageError


password_option = click.option(
    "--password-stdin",
    is_flag=True,
    help="read the password from standard input, not from the terminal",
)
"""Where the password comes from. There is no option for itself: everybody sees arguments."""


@click.group()
def user() -> None:
    """The users of auth.htpasswd. A server notices each change at once."""


@user.command()
@click.argument("name")
@password_option
@config_option
def add(name: str, *, password_stdin: bool, config: Path | None) -> None:
    """Add the user NAME."""
    settings = read_settings(config)
    path = _path(settings)
    try:
        editing.check_name(name)
    except EditRefusedError as error:
        raise TreeError(str(error)) from error
    if path.exists():  # before anybody types a password for nothing
        _changed(lambda: editing.add(editing.read(path), name, ""))
    hashed = _hashed(from_stdin=password_stdin)
    with _told(settings, "add-user", name):
        _edit(path, lambda text: editing.add(text, name, hashed), make=True)
    click.echo(f"{name} is added")


@user.command()
@click.argument("name")
@password_option
@config_option
def passwd(name: str, *, password_stdin: bool, config: Path | None) -> None:
    """Give the user NAME another password; their logins with the old one end."""
    settings = read_settings(config)
    path = _path(settings)
    _changed(lambda: editing.change(editing.read(path), name, ""))
    hashed = _hashed(from_stdin=password_stdin)
    with _told(settings, "change-password", name):
        _edit(path, lambda text: editing.change(text, name, hashed))
    click.echo(f"{name} has another password")


@user.command()
@click.argument("name")
@config_option
def remove(name: str, *, config: Path | None) -> None:
    """Remove the user NAME; what they logged in to ends."""
    settings = read_settings(config)
    path = _path(settings)
    with _told(settings, "remove-user", name):
        _edit(path, lambda text: editing.remove(text, name))
    click.echo(f"{name} is removed")
    named = _named_by(settings, name)
    if named:
        click.echo(f"still named by {', '.join(named)}: a new user {name} would get that", err=True)


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@config_option
def list_users(*, as_json: bool, config: Path | None) -> int:
    """Print the users."""
    settings = read_settings(config)
    path = _path(settings)
    text = _changed(lambda: editing.read(path))
    broken = editing.broken_lines(text)
    kept = [line for number, line in enumerate(text.split("\n"), 1) if number not in broken]
    hashes = parse("\n".join(kept))
    usable = {name: normalise(hashed) is not None for name, hashed in hashes.items()}
    if as_json:
        groups = groups_of(settings.access.groups) if settings.access is not None else {}
        found = [
            {"name": name, "usable": good, "groups": sorted(groups.get(name, ()))}
            for name, good in usable.items()
        ]
        click.echo(json.dumps({"users": found}, indent=2))
    else:
        for name in usable:
            click.echo(name)
    for name, good in usable.items():
        if not good:
            click.echo(
                f"{name} can't log in: the hash is not bcrypt; `user passwd` helps", err=True
            )
    if settings.access is not None and settings.access.ldap is not None:
        click.echo(f"users of {settings.access.ldap.url} can log in too", err=True)
    _tell_broken(path, text)
    return 1 if broken else 0


def _path(settings: Settings) -> Path:
    if settings.auth.htpasswd is None:
        if settings.access is not None and settings.access.ldap is not None:
            raise TreeError(
                f"there is no file of users: they are in the directory {settings.access.ldap.url}, "
                "which has tools of its own (see `access explain` for what one may)"
            )
        raise TreeError(
            "there is no file of users: the configuration has no auth.htpasswd.path "
            "(see `check-config`)"
        )
    return Path(settings.auth.htpasswd.path)


def _hashed(*, from_stdin: bool) -> str:
    """Return the hash of a password that is asked for.

    Raises:
        click.ClickException: it can't be one.
    """
    if from_stdin:
        try:
            password = sys.stdin.read().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise TreeError("the password is not UTF-8") from error
    elif sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        raise click.UsageError("there is no terminal to ask for a password: use --password-stdin")
    if not password:
        raise TreeError("the password is empty: it may not be")
    if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in password):
        raise TreeError("the password has a control character or several lines: no login sends one")
    try:
        return hash_password(password)
    except ValueError as error:
        raise TreeError(f"{error}: bcrypt takes no more") from error


def _told(settings: Settings, action: str, name: str) -> AbstractContextManager[object]:
    """Tell the audit log, if there is one, what is done to the user `name` within the context."""
    from dockyard.server.deeds import Deed, noted  # noqa: PLC0415 -- help needs none of it

    return noted(Deed(action=action, item=name), settings.audit)


def _edit(path: Path, change: Callable[[str], str], *, make: bool = False) -> None:
    _tell_broken(path, _changed(lambda: editing.edit(path, change, make=make)))


def _changed(work: Callable[[], str]) -> str:
    try:
        return work()
    except (EditRefusedError, StorageError) as error:
        raise TreeError(str(error)) from error


def _tell_broken(path: Path, text: str) -> None:
    for number in editing.broken_lines(text):
        click.echo(
            f"{path}, line {number}: not NAME:HASH; until it is put right nobody can log in",
            err=True,
        )


def _named_by(settings: Settings, name: str) -> list[str]:
    """Return what in the configuration names a user."""
    if settings.access is None:
        return []
    groups = [f"group {group}" for group, names in settings.access.groups.items() if name in names]
    rules = [
        f"rule {number}"
        for number, rule in enumerate(settings.access.rules, 1)
        if f"user:{name}" in rule.who
    ]
    return groups + rules
