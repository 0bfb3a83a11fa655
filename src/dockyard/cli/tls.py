"""The commands ``tls ...``: certificates for the listener."""

from datetime import timedelta
from pathlib import Path

import click

from dockyard.clock import utc_now


HTTPS_PORT = 443
"""The port that names of images leave out."""


@click.group("tls")
def tls() -> None:
    """Make certificates for `http.tls`."""


@tls.command("self-signed")
@click.option("--host", "hosts", multiple=True, required=True, help="a name or address; repeatable")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, help="of the registry")
@click.option("--out", type=click.Path(path_type=Path), default=Path(), help="the directory")
@click.option("--days", type=click.IntRange(1, 3650), default=825, help="how long it is valid")
def self_signed(hosts: tuple[str, ...], port: int, out: Path, days: int) -> None:
    """Issue a certificate by an authority of one's own, and say how docker comes to trust it.

    The authority (ca.crt, ca.key) is made the first time; called again with the same directory it
    issues anew, and clients need not be told. The server's files are server.crt and server.key.
    """
    from dockyard.server.authority import AuthorityError, issue  # noqa: PLC0415 -- help comes at once

    try:
        files = issue(out, hosts, timedelta(days=days), utc_now())
    except AuthorityError as error:
        raise click.ClickException(str(error)) from error
    click.echo("In the registry's configuration, under http:")
    click.echo("  tls:")
    click.echo(f"    certificate: {files.certificate.resolve()}")
    click.echo(f"    key: {files.key.resolve()}")
    for host in hosts:
        name = f"[{host}]" if ":" in host.strip("[]") and "[" not in host else host
        place = name if port == HTTPS_PORT else f"{name}:{port}"
        click.echo(f"On each machine whose docker is to trust {place}:")
        click.echo(f"  scp {name}:{files.authority.resolve()} ca.crt")
        click.echo(f"  sudo mkdir -p /etc/docker/certs.d/{place}")
        click.echo(f"  sudo cp ca.crt /etc/docker/certs.d/{place}/ca.crt")
