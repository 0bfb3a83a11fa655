import ssl
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dockyard.cli.main import registry


def self_signed(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(registry, ["tls", "self-signed", "--out", str(directory), *arguments])


def shake_hands(directory: Path, host: str, authority: bytes | None = None) -> None:
    """Make a handshake in memory between a client that trusts `directory` and its server."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "server.crt", directory / "server.key")
    trusted = (authority or (directory / "ca.crt").read_bytes()).decode()
    client = ssl.create_default_context(cadata=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from CPython 3.13 on
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for end in ends * 2:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("host", ["registry.lan", "a.dev.lan", "192.0.2.7", "2001:db8::7"])
def test_clients_trust_what_was_issued_for_each_host(tmp_path: Path, host: str) -> None:
    hosts = ("registry.lan", "*.dev.lan", "192.0.2.7", "[2001:db8::7]")
    done = self_signed(tmp_path, *(word for each in hosts for word in ("--host", each)))
    assert done.exit_code == 0, done.output
    shake_hands(tmp_path, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, "other.lan")


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    self_signed(tmp_path, "--host", "registry.lan")
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ca.crt",
        "ca.key",
        "server.crt",
        "server.key",
    ]


def test_it_says_what_to_do(tmp_path: Path) -> None:
    done = self_signed(tmp_path, "--host", "registry.lan", "--host", "::1", "--port", "5001")
    assert f"    certificate: {tmp_path}/server.crt\n" in done.stdout
    assert (
        "On each machine whose docker is to trust registry.lan:5001:\n"
        f"  scp registry.lan:{tmp_path}/ca.crt ca.crt\n"
        "  sudo mkdir -p /etc/docker/certs.d/registry.lan:5001\n"
        "  sudo cp ca.crt /etc/docker/certs.d/registry.lan:5001/ca.crt\n"
    ) in done.stdout
    assert "certs.d/[::1]:5001/ca.crt\n" in done.stdout
    done = self_signed(tmp_path, "--host", "registry.lan", "--port", "443")
    assert "/etc/docker/certs.d/registry.lan/ca.crt\n" in done.stdout


def test_a_second_time_the_authority_stays(tmp_path: Path) -> None:
    self_signed(tmp_path, "--host", "registry.lan")
    authority, first = (tmp_path / "ca.crt").read_bytes(), (tmp_path / "server.crt").read_bytes()
    assert self_signed(tmp_path, "--host", "new.lan").exit_code == 0
    assert (tmp_path / "server.crt").read_bytes() != first
    shake_hands(tmp_path, "new.lan", authority)


@pytest.mark.parametrize(
    "host", ["https://registry.lan", "registry.lan:5000", "", "a b", "-a.lan", "a..b", "a" * 64]
)
def test_what_is_no_host_is_told(tmp_path: Path, host: str) -> None:
    done = self_signed(tmp_path / "new", "--host", host)
    assert done.exit_code == 1
    assert "is no host: give a name or an address, without scheme and port" in done.stderr
    assert not (tmp_path / "new").exists()


def test_certificates_from_elsewhere_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "server.crt").write_text("bought")
    done = self_signed(tmp_path, "--host", "registry.lan")
    assert done.exit_code == 1
    assert "is there already, and not from here" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["server.crt"]


def test_a_damaged_authority_is_told(tmp_path: Path) -> None:
    self_signed(tmp_path, "--host", "registry.lan")
    (tmp_path / "ca.crt").write_text("damaged")
    assert "can't be read" in self_signed(tmp_path, "--host", "registry.lan").stderr
    (tmp_path / "ca.crt").unlink()
    assert "ca.crt: no such file" in self_signed(tmp_path, "--host", "registry.lan").stderr


def test_a_directory_that_can_t_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = self_signed(tmp_path / "file", "--host", "registry.lan")
    assert done.exit_code == 1
    assert "file exists" in done.stderr
