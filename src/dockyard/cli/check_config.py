"""The command ``check-config``."""

import os
from pathlib import Path

import click

from dockyard.config import ConfigurationError, Finding, load, render_effective


@click.command("check-config")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
def check_config(file: Path | None, *, strict: bool) -> None:
    """Check a configuration and print what it amounts to.

    Without FILE it is the configuration that `serve` would find. REGISTRY_* variables of the
    environment count, as they do for `serve`. Errors go to standard error; warnings, then the
    effective configuration with secrets masked, to standard output.

    The exit status is 1 if there are errors, or, with --strict, warnings.
    """
    try:
        loaded = load(file, os.environ)
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        _print_warnings(error.findings)
        raise SystemExit(1) from None
    _print_warnings(loaded.findings)
    source = click.format_filename(loaded.path) if loaded.path else "the embedded default"
    click.echo(f"# effective configuration, from {source}")
    click.echo(render_effective(loaded.settings), nl=False)
    if strict and loaded.findings:
        raise SystemExit(1)


def _print_warnings(findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        click.echo(f"warning: {finding}")
