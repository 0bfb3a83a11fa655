"""The command ``serve``."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from dockyard.cli.importing import importing
from dockyard.config import ConfigurationError, FilesystemSettings, Settings, load


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--welcome", is_flag=True, help="once it serves, say where and what to try")
@click.pass_context
def serve(context: click.Context, config: Path | None, *, welcome: bool) -> int:
    """`serve` stores and distributes Docker images."""
    try:
        loaded = load(config, os.environ)
    except ConfigurationError as error:
        click.echo(f"configuration error: {error}", err=True)
        click.echo(context.get_usage(), err=True)
        return 1
    with importing():  # mistakes are told before all is imported
        from dockyard.server import service  # noqa: PLC0415 -- see above

    def greet(addresses: Sequence[str]) -> None:
        if welcome:
            click.echo(render_welcome(loaded.settings, addresses))

    return service.serve(loaded, os.environ, announce=greet)


def render_welcome(settings: Settings, addresses: Sequence[str]) -> str:
    """Return two lines: where the registry listens and keeps its data, and a push to try."""
    host, _, port = addresses[0].rpartition(":")
    name = f"localhost:{port}" if host in {"[::]", "0.0.0.0", "127.0.0.1"} else addresses[0]  # noqa: S104 -- compared, not bound
    driver = settings.storage.driver
    scheme = "https" if settings.http.tls.enabled else "http"
    kept = driver.rootdirectory if isinstance(driver, FilesystemSettings) else "memory"
    return (
        f"Dockyard serves on {scheme}://{name} and keeps its images in {kept}\n"
        f"Try: docker tag IMAGE {name}/IMAGE && docker push {name}/IMAGE"
    )
