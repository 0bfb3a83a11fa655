"""TLS as clients find it: versions, suites, certificates of both sides, reload, bad manners."""

import asyncio
import hashlib
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from typing_extensions import override

from dockyard.config.http import TLSSettings
from dockyard.http.messages import Receive, Scope, Send
from dockyard.server.acceptor import Acceptor
from dockyard.server.certificates import ConfiguredCertificate
from tests.parts.authority import Authority, Pair
from tests.parts.programs import require, run
from tests.serving.live_registry import (
    LiveRegistry,
    command,
    live_registry,
    until,
    write_configuration,
)
from tests.serving.probe import QUICK, Probe, answer, eventually, statuses


GET = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

OPENSSL_SECONDS = 10


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("first")


def tls(pair: Pair, **more: object) -> dict[str, Any]:
    return {"tls": {"certificate": str(pair.certificate), "key": str(pair.key), **more}}


def client(authority: Authority, shown: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


def connect(port: int, context: ssl.SSLContext, seconds: float = 5) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    try:
        return context.wrap_socket(raw, server_hostname="localhost")
    except BaseException:
        raw.close()
        raise


def ask(port: int, context: ssl.SSLContext, request: bytes = GET) -> bytes:
    """Return all that is answered until the server closes."""
    with connect(port, context) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def presented(port: int, context: ssl.SSLContext) -> str:
    """Return the common name of the certificate that the server presents."""
    with connect(port, context) as connection:
        subject: Any = (connection.getpeercert() or {})["subject"]
        return str(dict(part for (part,) in subject)["commonName"])


class TestDefaults:
    """What a listener with a certificate and no other setting does."""

    @pytest.fixture(scope="class")
    @staticmethod
    def registry(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Iterator[LiveRegistry]:
        with live_registry(tmp_path_factory.mktemp("defaults"), http=tls(pair)) as live:
            yield live

    @staticmethod
    def handshake(registry: LiveRegistry, *options: str) -> subprocess.CompletedProcess[str]:
        """Try a handshake as a client that would agree to anything."""
        return subprocess.run(
            [require("openssl"), "s_client", "-connect", registry.address, *options],
            input="",
            capture_output=True,
            text=True,
            timeout=OPENSSL_SECONDS,
            check=False,
        )

    @pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
    def test_old_versions_are_refused(self, registry: LiveRegistry, version: str) -> None:
        done = self.handshake(registry, version, "-cipher", "ALL:@SECLEVEL=0")
        assert done.returncode != 0
        assert "alert protocol version" in done.stderr

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_new_versions_are_taken(self, registry: LiveRegistry, version: str) -> None:
        assert self.handshake(registry, version).returncode == 0

    def test_up_to_tls_1_2_suites_are_forward_secret_and_authenticated(
        self, registry: LiveRegistry
    ) -> None:
        """Each suite that openssl knows is offered alone; what is taken must be a good one."""
        taken = set()
        known = run("openssl", "ciphers", "-tls1_2", "-s", "ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        for suite in known.strip().split(":"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with suppress(ssl.SSLError, ConnectionResetError):
                context.set_ciphers(f"{suite}:@SECLEVEL=0")
                connect(registry.port, context).close()
                taken.add(suite)
        assert taken == {
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        }

    def test_renegotiation_is_refused(self, registry: LiveRegistry) -> None:
        done = subprocess.run(
            [require("openssl"), "s_client", "-connect", registry.address, "-tls1_2"],
            input="R\n",
            capture_output=True,
            text=True,
            timeout=OPENSSL_SECONDS,
            check=False,
        )
        assert "no renegotiation" in done.stderr

    @pytest.mark.parametrize(
        ("offered", "agreed"),
        [
            (["h2", "http/1.1"], "h2"),
            (["http/1.1", "h2"], "h2"),
            (["http/1.1"], "http/1.1"),
            (["h3", "http/1.0"], None),
        ],
    )
    def test_http_2_is_preferred(
        self, registry: LiveRegistry, authority: Authority, offered: list[str], agreed: str | None
    ) -> None:
        """Where nothing is common OpenSSL goes on; Go's server ends the handshake."""
        context = client(authority)
        context.set_alpn_protocols(offered)
        with connect(registry.port, context) as connection:
            assert connection.selected_alpn_protocol() == agreed

    def test_a_request_is_answered_and_the_end_is_said(
        self, registry: LiveRegistry, authority: Authority
    ) -> None:
        """`ask` fails if the connection ends without the alert that says so."""
        assert statuses(ask(registry.port, client(authority))) == [200]

    def test_a_location_is_https(self, registry: LiveRegistry, authority: Authority) -> None:
        request = GET.replace(b"GET /v2/", b"POST /v2/a/blobs/uploads/")
        assert b"\r\nLocation: https://localhost/" in ask(registry.port, client(authority), request)

    def test_plain_http_is_told_so(self, registry: LiveRegistry) -> None:
        with closing(socket.create_connection(("127.0.0.1", registry.port), 5)) as plain:
            plain.sendall(GET)
            answered = b"".join(iter(lambda: plain.recv(1 << 16), b""))
        assert statuses(answered) == [400]
        assert answered.endswith(b"\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")

    def test_what_is_neither_is_cut_off(self, registry: LiveRegistry) -> None:
        with closing(socket.create_connection(("127.0.0.1", registry.port), 5)) as raw:
            raw.sendall(b"\0" * 100)
            with suppress(ConnectionResetError):
                assert raw.recv(100) == b""

    def test_garbage_in_a_record_is_an_alert(self, registry: LiveRegistry) -> None:
        with closing(socket.create_connection(("127.0.0.1", registry.port), 5)) as raw:
            raw.sendall(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff")
            raw.shutdown(socket.SHUT_WR)
            assert len(raw.recv(100)) in {0, 7}

    def test_garbage_after_the_handshake_ends_the_connection(
        self, registry: LiveRegistry, authority: Authority
    ) -> None:
        with connect(registry.port, client(authority)) as connection:
            with socket.socket(fileno=os.dup(connection.fileno())) as raw:
                raw.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                connection.recv(100)
        assert "Traceback" not in registry.log


class TestSettings:
    def test_tls_1_3_alone(self, tmp_path: Path, pair: Pair, authority: Authority) -> None:
        settings = tls(pair, minimumtls="tls1.3", ciphersuites=["TLS_RSA_WITH_AES_128_CBC_SHA"])
        context = client(authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with live_registry(tmp_path, http=settings) as live:
            with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
                connect(live.port, context)
            assert statuses(ask(live.port, client(authority))) == [200]
            assert live.log.count("http.tls.ciphersuites ignored") == 1

    def test_the_suites_are_those_asked_for(
        self, tmp_path: Path, pair: Pair, authority: Authority
    ) -> None:
        suites = ["TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "TLS_AES_128_GCM_SHA256"]
        context = client(authority)
        context.set_ciphers("ALL")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            live_registry(tmp_path, http=tls(pair, ciphersuites=suites)) as live,
            connect(live.port, context) as connection,
        ):
            suite = connection.cipher()
        assert suite is not None
        assert suite[0] == "ECDHE-ECDSA-AES256-SHA"

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"certificate": "absent.pem"}, "can't read absent.pem: no such file or directory"),
            ({"certificate": "{key}"}, "there is no certificate in PEM form in"),
            ({"key": "{certificate}"}, "there is no private key in PEM form in"),
            ({"key": "{other}"}, "is not that of the certificate in"),
            ({"key": "{encrypted}"}, "is encrypted, and nobody is there to ask for its password"),
            ({"clientcas": ["{key}"]}, "http.tls.clientcas[0]: there is no certificate in PEM"),
        ],
    )
    def test_what_can_t_be_used_stops_the_start_in_one_line(
        self, tmp_path: Path, authority: Authority, change: dict[str, Any], reason: str
    ) -> None:
        pair, other = authority.issue("a"), authority.issue("b")
        encrypted = tmp_path / "encrypted.key"
        secret = ("-aes256", "-passout", "pass:secret")
        run("openssl", "pkey", "-in", pair.key, "-out", encrypted, *secret)
        names = {
            "certificate": pair.certificate,
            "key": pair.key,
            "other": other.key,
            "encrypted": encrypted,
        }
        filled = {
            name: [each.format(**names) for each in value]
            if isinstance(value, list)
            else value.format(**names)
            for name, value in change.items()
        }
        path = write_configuration(tmp_path, http=tls(pair) | {"tls": tls(pair)["tls"] | filled})
        done = subprocess.run(
            command("serve", str(path)), capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "level=fatal" in line
        assert reason in line

    def test_a_certificate_that_has_ended_is_told_and_served(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        ended = authority.issue("ended", until=datetime.now(UTC) - timedelta(hours=1))
        with live_registry(tmp_path, http=tls(ended)) as live:
            assert "the certificate is not valid now: renew it" in live.log


class TestClientCertificates:
    @pytest.mark.parametrize("mode", [None, "require-and-verify-client-cert"])
    def test_it_is_required(
        self, tmp_path: Path, pair: Pair, authority: Authority, mode: str | None
    ) -> None:
        stranger = Authority(tmp_path / "stranger", "stranger").issue("mallory")
        settings = tls(pair, clientcas=[str(authority.certificate)], clientauth=mode)
        with live_registry(tmp_path, http=settings) as live:
            known = client(authority, authority.issue("alice"))
            assert statuses(ask(live.port, known)) == [200]
            for context in (client(authority), client(authority, stranger)):
                with pytest.raises((ssl.SSLError, ConnectionResetError)):
                    ask(live.port, context)
            assert "peer did not return a certificate" in live.log
            assert "TLS handshake failed" in live.log

    def test_it_is_verified_if_given(
        self, tmp_path: Path, pair: Pair, authority: Authority
    ) -> None:
        stranger = Authority(tmp_path / "stranger", "stranger").issue("mallory")
        settings = tls(
            pair,
            clientcas=[str(authority.certificate)],
            clientauth="verify-client-cert-if-given",
        )
        with live_registry(tmp_path, http=settings) as live:
            for context in (client(authority), client(authority, authority.issue("alice"))):
                assert statuses(ask(live.port, context)) == [200]
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                ask(live.port, client(authority, stranger))

    @pytest.mark.parametrize("mode", ["request-client-cert", "require-any-client-cert"])
    def test_one_that_nobody_verifies_can_t_be_asked_for(
        self, tmp_path: Path, pair: Pair, mode: str
    ) -> None:
        path = write_configuration(tmp_path, http=tls(pair, clientauth=mode))
        done = subprocess.run(
            command("serve", str(path)), capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 1
        told = "http.tls.clientauth: not available in Dockyard: "
        (line,) = (line for line in done.stderr.splitlines() if told in line)
        assert "say verify-client-cert-if-given or require-and-verify-client-cert" in line


class TestReload:
    @pytest.fixture
    def own(self, authority: Authority, tmp_path: Path) -> Pair:
        issued = authority.issue("old")
        own = Pair(tmp_path / "server.crt", tmp_path / "server.key")
        own.certificate.write_bytes(issued.certificate.read_bytes())
        own.key.write_bytes(issued.key.read_bytes())
        return own

    @pytest.mark.parametrize("how", ["file", "signal"])
    def test_a_new_certificate_is_presented_while_a_pull_goes_on(
        self, tmp_path: Path, own: Pair, authority: Authority, how: str
    ) -> None:
        context = client(authority)
        blob = bytes(range(256)) * (64 << 10)  # 16 MiB: far more than the buffers between us
        digest = "sha256:" + hashlib.sha256(blob).hexdigest()
        with live_registry(tmp_path, http={**tls(own), "workers": 2}) as live:
            upload = (
                f"POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Length: {len(blob)}\r\nConnection: close\r\n\r\n"
            )
            assert statuses(ask(live.port, context, upload.encode() + blob)) == [201]
            with connect(live.port, context) as pull:
                pull.sendall(GET.replace(b"/v2/", f"/v2/a/blobs/{digest}".encode()))
                received = pull.recv(1 << 10)
                own.replace(authority.issue("new"))
                if how == "signal":
                    live.process.send_signal(signal.SIGHUP)
                workers = live.workers()
                until(lambda: {presented(live.port, context) for _ in range(8)} == {"new"})
                rest = b"".join(iter(lambda: pull.recv(1 << 16), b""))
            assert (received + rest).endswith(blob)
            assert live.workers() == workers

    def test_a_broken_one_is_not_taken_and_told_once(
        self, tmp_path: Path, own: Pair, authority: Authority
    ) -> None:
        context = client(authority)
        with live_registry(tmp_path, http={**tls(own), "workers": 2}) as live:
            own.certificate.write_text("nonsense\n")
            until(lambda: "certificate not replaced: the old one stays" in live.log)
            live.process.send_signal(signal.SIGHUP)
            until(lambda: live.log.count("certificate not replaced") == 2)
            assert {presented(live.port, context) for _ in range(8)} == {"old"}
            own.replace(authority.issue("new"))
            until(lambda: {presented(live.port, context) for _ in range(8)} == {"new"})
            assert live.log.count("certificate not replaced") == 2


class Echo(Probe):
    """Remembers the scopes."""

    def __init__(self) -> None:
        super().__init__()
        self.scopes: list[Scope] = []

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["path"] == "/v2/":
            await answer(send, 200, b"ok\n")
        else:
            await super().__call__(scope, receive, send)


class Secure:
    """A probe behind TLS, with short time-outs, in the test's own loop."""

    def __init__(self, settings: TLSSettings) -> None:
        self.probe = Echo()
        self.acceptor = Acceptor(self.probe, QUICK, ConfiguredCertificate(settings))
        self.port = 0

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        await self.acceptor.start([listening])
        self.port = listening.getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.acceptor.stop(0.0, asyncio.Event())

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def connect(
        self, context: ssl.SSLContext
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname="localhost"
        )


class TestBounds:
    @pytest.fixture
    def settings(self, pair: Pair, authority: Authority) -> TLSSettings:
        return TLSSettings(
            certificate=str(pair.certificate),
            key=str(pair.key),
            clientcas=(str(authority.certificate),),
            clientauth="verify-client-cert-if-given",
        )

    @pytest.mark.parametrize(
        "sent", [b"", b"\x16", b"\x16\x03\x01\x00\xf0\x01\x00\x00\xec\x03\x03"]
    )
    async def test_a_handshake_that_stalls_is_given_up(
        self, settings: TLSSettings, sent: bytes
    ) -> None:
        async with Secure(settings) as served:
            reader, writer = await served.raw()
            writer.write(sent)
            began = asyncio.get_running_loop().time()
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            assert asyncio.get_running_loop().time() - began < 2
            await eventually(lambda: not served.acceptor.connections)
            writer.close()

    async def test_a_slow_head_behind_a_handshake_is_408(
        self, settings: TLSSettings, authority: Authority
    ) -> None:
        async with Secure(settings) as served:
            reader, writer = await served.connect(client(authority))
            writer.write(b"GET / HT")
            assert statuses(await asyncio.wait_for(reader.read(), 5)) == [408]
            writer.close()

    async def test_connections_in_handshake_count(self, settings: TLSSettings) -> None:
        async with Secure(settings) as served:
            opened = [await served.raw() for _ in range(5)]
            await eventually(lambda: len(served.acceptor.connections) == 5)
            for _, writer in opened:
                writer.close()
            await eventually(lambda: not served.acceptor.connections)

    async def test_a_large_body_and_a_large_answer_arrive_whole(
        self, settings: TLSSettings, authority: Authority
    ) -> None:
        """The client is a blocking one: uvloop's loses the last bytes before an end."""
        body = bytes(range(256)) * 40_000
        head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        last = b"GET /big?5000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        async with Secure(settings) as served:
            context = client(authority)
            answered = await asyncio.to_thread(ask, served.port, context, head + body + last)
        assert statuses(answered) == [200, 200]
        assert hashlib.sha256(body).hexdigest().encode() in answered
        assert answered.endswith(b"\r\n\r\n" + bytes(5_000_000))

    async def test_an_early_answer_can_be_read_while_the_body_is_sent(
        self, settings: TLSSettings, authority: Authority
    ) -> None:
        head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n"
        async with Secure(settings) as served:
            context = client(authority)
            answered = await asyncio.to_thread(ask, served.port, context, head + bytes(3_000_000))
        assert statuses(answered) == [413]

    async def test_a_client_that_says_goodbye_in_a_body_is_gone(
        self, settings: TLSSettings, authority: Authority
    ) -> None:
        def leave(port: int) -> None:
            with connect(port, client(authority)) as connection:
                connection.sendall(
                    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"
                )
                connection.unwrap().close()

        async with Secure(settings) as served:
            await asyncio.to_thread(leave, served.port)
            await eventually(lambda: served.probe.cut_off == 1)
            await eventually(lambda: not served.acceptor.connections)

    async def test_a_client_that_takes_nothing_is_given_up(
        self, settings: TLSSettings, authority: Authority
    ) -> None:
        async with Secure(settings) as served:
            reader, writer = await served.connect(client(authority))
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /big?100000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            await eventually(lambda: served.probe.cut_off == 1)
            assert served.probe.sent < 50_000_000
            writer.transport.abort()
            del reader

    async def test_the_scope_says_who_the_client_is(
        self, settings: TLSSettings, authority: Authority
    ) -> None:
        alice = authority.issue("alice")
        for shown in (None, alice):
            async with Secure(settings) as served:
                reader, writer = await served.connect(client(authority, shown))
                writer.write(GET)
                assert statuses(await asyncio.wait_for(reader.read(), 5)) == [200]
                writer.close()
                (scope,) = served.probe.scopes
            found = scope["extensions"]["tls"]
            assert scope["scheme"] == "https"
            assert found["tls_version"] == 0x0304
            assert found["cipher_suite"] in {0x1301, 0x1302, 0x1303}
            if shown is None:
                assert found["client_cert_name"] is None
                assert found["client_cert_chain"] == ()
            else:
                assert found["client_cert_name"] == r"CN=alice,O=Tests\, Inc."
                assert found["client_cert_chain"][0] == alice.certificate.read_text()
