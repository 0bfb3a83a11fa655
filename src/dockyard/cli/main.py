"""The command ``registry``, also called ``dockyard``: its sub-commands, by name.

A sub-command is imported when it is called or its help is asked for, so that ``--version`` and
mistakes are answered in a fraction of a second. Mistakes exit with 1, as in distribution.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click
from typing_extensions import override

from dockyard.cli.importing import importing


COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "access": "dockyard.cli.access:access",
        "check-config": "dockyard.cli.check_config:check_config",
        "du": "dockyard.cli.du:du",
        "explain": "dockyard.cli.explain:explain",
        "fsck": "dockyard.cli.fsck:fsck",
        "garbage-collect": "dockyard.cli.garbage_collect:garbage_collect",
        "key": "dockyard.cli.key:key",
        "repository": "dockyard.cli.repository:repository",
        "serve": "dockyard.cli.serve:serve",
        "tags": "dockyard.cli.tags:tags",
        "tls": "dockyard.cli.tls:tls",
        "trash": "dockyard.cli.trash:trash",
        "user": "dockyard.cli.user:user",
    }
)
"""Where each sub-command is: module and name."""

PACKAGE: Final = "github.com/distribution/distribution/v3"
"""What distribution prints before its version; scripts expect three words."""


class Commands(click.Group):
    """The sub-commands of `COMMANDS`, imported when needed."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, name = place.split(":")
        with importing():
            command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.command(
    cls=Commands,
    name="registry",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("-v", "--version", is_flag=True, help="show the version and exit")
@click.pass_context
def registry(context: click.Context, *, version: bool) -> None:
    """`registry`"""  # noqa: D415 -- distribution's text
    if version:
        from dockyard.server.release import release  # noqa: PLC0415 -- see the module's docstring

        click.echo(f"{Path(sys.argv[0]).name} {PACKAGE} {release()}")
    elif context.invoked_subcommand is None:
        click.echo(context.get_help())


def run() -> None:
    """Run the command line of this process, and end it with the command's exit status."""
    try:
        status = registry.main(prog_name="registry", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except click.Abort:
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)
