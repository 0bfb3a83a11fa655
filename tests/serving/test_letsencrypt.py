"""Certificates from a real ACME server on the loopback."""

import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.parts.authority import Authority
from tests.parts.daemon import free_port
from tests.parts.pebble import Pebble
from tests.parts.programs import attempt
from tests.serving.live_registry import (
    LiveRegistry,
    command,
    live_registry,
    until,
    write_configuration,
)
from tests.serving.probe import statuses


HOSTS = ["one.example", "Two.Example"]

ISSUE_SECONDS = 60


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Pebble]:
    with Pebble(tmp_path_factory.mktemp("acme") / "pebble", port) as running:
        yield running


def http(port: int, pebble: Pebble, cache: Path, hosts: list[str]) -> dict[str, object]:
    issuing = {
        "cachefile": str(cache),
        "email": "operator@one.example",
        "hosts": hosts,
        "directoryurl": pebble.url,
    }
    return {"addr": f"127.0.0.1:{port}", "workers": 2, "tls": {"letsencrypt": issuing}}


def connect(port: int, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=5)
    try:
        return context.wrap_socket(raw, server_hostname=host)
    except BaseException:
        raw.close()
        raise


def serial(port: int, context: ssl.SSLContext, host: str) -> int | None:
    """Return the number of the certificate that is presented; `None` if there is none yet."""
    try:
        with connect(port, context, host) as connection:
            encoded = connection.getpeercert(binary_form=True)
    except ssl.SSLError:
        return None
    assert encoded is not None
    return x509.load_der_x509_certificate(encoded).serial_number


def test_certificates_are_issued_kept_and_renewed(
    tmp_path: Path, pebble: Pebble, port: int
) -> None:
    cache = tmp_path / "cache"
    trust = {"SSL_CERT_FILE": str(pebble.trust)}
    context = ssl.create_default_context(cadata=pebble.root())
    settings = http(port, pebble, cache, HOSTS)
    with live_registry(tmp_path, environment=trust, http=settings) as live:
        first = {host: issued(live, context, host) for host in ("one.example", "two.example")}
        assert len(set(first.values())) == 2
        with connect(port, context, "one.example") as connection:
            connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert statuses(connection.recv(1 << 16)) == [200]
        refuses_others(port, context)
        assert live.log.count('msg="certificate issued"') == 2
        assert "Traceback" not in live.log
    names = ["acme_account+key", "one.example", "two.example"]
    assert sorted(path.name for path in cache.iterdir() if path.name[0] != ".") == names
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in cache.iterdir())

    # Started again it has them at once; what is due is renewed, and the other one stays.
    old = Authority(tmp_path / "old").issue(
        "old", ["one.example"], until=datetime.now(UTC) + timedelta(hours=1)
    )
    (cache / "one.example").write_bytes(old.key.read_bytes() + old.certificate.read_bytes())
    with live_registry(tmp_path, environment=trust, http=settings) as live:
        assert serial(port, context, "two.example") == first["two.example"]
        renewed = issued(live, context, "one.example")
        assert renewed != first["one.example"]
        assert live.log.count('msg="certificate issued"') == 1
        assert serial(port, context, "two.example") == first["two.example"]


def issued(live: LiveRegistry, context: ssl.SSLContext, host: str) -> int:
    """Return the number of the certificate that all workers present for `host`."""

    def look() -> int | None:
        found = {serial(live.port, context, host) for _ in range(8)}
        assert "no certificate" not in live.log, live.log
        return found.pop() if len(found) == 1 else None

    return until(look, ISSUE_SECONDS)


def refuses_others(port: int, context: ssl.SSLContext) -> None:
    """Check that a handshake for another host, or without one, or for no challenge, fails."""
    for host in ("three.example", "127.0.0.1"):
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized_?name"):
            connect(port, context, host)
    looking = ssl.create_default_context()
    looking.set_alpn_protocols(["acme-tls/1"])
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized_?name"):
        connect(port, looking, "one.example")
    with closing(socket.create_connection(("127.0.0.1", port), 5)) as raw:
        raw.sendall(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff")
        assert raw.recv(100) == b"\x15\x03\x03\x00\x02\x02\x32"


@pytest.mark.parametrize("reachable", [True, False])
def test_a_failure_is_told_and_waits(
    tmp_path: Path, pebble: Pebble, port: int, *, reachable: bool
) -> None:
    settings = http(port, pebble, tmp_path / "cache", ["blocked.example"])
    trust = {"SSL_CERT_FILE": str(pebble.trust)} if reachable else {}
    with live_registry(tmp_path, environment=trust, http=settings) as live:
        until(lambda: 'msg="no certificate"' in live.log, ISSUE_SECONDS)
        (line,) = (line for line in live.log.splitlines() if "no certificate" in line)
        assert ("rejectedIdentifier" if reachable else "certificate verify failed") in line
        assert "again=300s" in line
        assert live.stop() == 0
        assert "Traceback" not in live.log


def test_an_issue_under_way_does_not_hold_up_the_end(tmp_path: Path, port: int) -> None:
    """The authority takes the connection, and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/dir"
        issuing = {"cachefile": str(tmp_path / "cache"), "hosts": HOSTS, "directoryurl": url}
        settings = {"addr": f"127.0.0.1:{port}", "tls": {"letsencrypt": issuing}}
        with live_registry(tmp_path, http=settings) as live:
            silent.settimeout(10)
            with silent.accept()[0]:
                assert live.stop(seconds=3) == 0


def test_a_cache_that_is_a_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    issuing = {"cachefile": str(tmp_path / "cache"), "hosts": HOSTS}
    path = write_configuration(tmp_path, http={"tls": {"letsencrypt": issuing}})
    done = attempt(*command("serve", str(path)))
    assert done.returncode == 1
    assert "cache is a file; name a directory" in done.stderr
