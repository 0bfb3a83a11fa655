"""The command ``serve``."""

import os
from pathlib import Path

import click

from dockyard.config import ConfigurationError, load


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.pass_context
def serve(context: click.Context, config: Path | None) -> int:
    """`serve` stores and distributes Docker images."""
    try:
        loaded = load(config, os.environ)
    except ConfigurationError as error:
        click.echo(f"configuration error: {error}", err=True)
        click.echo(context.get_usage(), err=True)
        return 1
    from dockyard.server import service  # noqa: PLC0415 -- mistakes are told before all is imported

    return service.serve(loaded, os.environ)
