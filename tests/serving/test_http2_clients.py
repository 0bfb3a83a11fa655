"""HTTP/2 by real clients, against a live registry."""

import asyncio
import hashlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from h2.errors import ErrorCodes

from dockyard.config.http import TLSSettings
from dockyard.server.acceptor import Acceptor
from dockyard.server.certificates import ConfiguredCertificate
from dockyard.server.http2.connection import HTTP2Connection
from dockyard.server.limits import ConnectionLimits
from tests.parts.authority import Authority, Pair
from tests.parts.programs import attempt, require, run
from tests.registry_client import RegistryClient, with_query
from tests.serving.http2_client import Client
from tests.serving.live_registry import LiveRegistry, live_registry, until
from tests.serving.probe import Probe


H2SPEC_SECONDS = 60

REPORT = "\n%{http_version} %{http_code}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("first")


def tls(pair: Pair, **more: object) -> dict[str, Any]:
    files = {"certificate": str(pair.certificate), "key": str(pair.key)}
    return {"tls": {**files, **more}}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Iterator[LiveRegistry]:
    with live_registry(tmp_path_factory.mktemp("secure"), http=tls(pair)) as live:
        yield live
        assert "Traceback" not in live.log


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRegistry]:
    http = {"h2c": {"enabled": True}}
    with live_registry(tmp_path_factory.mktemp("clear"), http=http) as live:
        yield live
        assert "Traceback" not in live.log


def curl(*arguments: str | Path) -> str:
    """Return the version of HTTP and the status, behind what was answered."""
    return run("curl", "-s", "-S", "-w", REPORT, *arguments)


def context(authority: Authority, *protocols: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=authority.certificate)
    made.set_alpn_protocols(protocols)
    return made


class TestAgreement:
    def test_by_tls_it_is_preferred(self, secure: LiveRegistry, authority: Authority) -> None:
        url = f"https://localhost:{secure.port}/v2/"
        trust = ("--cacert", authority.certificate)
        assert curl(*trust, url) == "{}\n2 200"
        assert curl("--http1.1", *trust, url) == "{}\n1.1 200"
        assert '"GET /v2/ HTTP/2.0" 200' in secure.access_log
        assert '"GET /v2/ HTTP/1.1" 200' in secure.access_log

    def test_it_can_be_switched_off(self, tmp_path: Path, pair: Pair, authority: Authority) -> None:
        http = {**tls(pair), "http2": {"disabled": True}}
        with live_registry(tmp_path, http=http) as live:
            url = f"https://localhost:{live.port}/v2/"
            assert curl("--cacert", authority.certificate, url) == "{}\n1.1 200"

    def test_suites_that_clients_refuse_with_it_switch_it_off(
        self, tmp_path: Path, pair: Pair, authority: Authority
    ) -> None:
        http = tls(pair, ciphersuites=["TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"])
        with live_registry(tmp_path, http=http) as live:
            url = f"https://localhost:{live.port}/v2/"
            assert curl("--cacert", authority.certificate, url) == "{}\n1.1 200"

    def test_without_tls_by_prior_knowledge(self, clear: LiveRegistry) -> None:
        assert curl("--http2-prior-knowledge", f"{clear.url}/v2/") == "{}\n2 200"

    def test_without_tls_by_upgrade(self, clear: LiveRegistry) -> None:
        assert curl("--http2", f"{clear.url}/v2/") == "{}\n2 200"
        assert curl("--http1.1", f"{clear.url}/v2/") == "{}\n1.1 200"

    def test_without_tls_it_is_off(self, registry: LiveRegistry) -> None:
        assert curl("--http2", f"{registry.url}/v2/") == "{}\n1.1 200"
        done = attempt("curl", "-s", "--http2-prior-knowledge", f"{registry.url}/v2/")
        assert done.returncode != 0

    def test_its_library_is_loaded_only_where_it_is_on(self) -> None:
        look = "import sys, dockyard.server.service; print('h2' in sys.modules)"
        assert run(Path(sys.executable), "-c", look) == "False\n"


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 20) + 1, 64 << 20])
@pytest.mark.parametrize("way", ["tls", "prior", "upgrade"])
def test_a_blob_comes_back_as_it_was_pushed(
    secure: LiveRegistry,
    clear: LiveRegistry,
    authority: Authority,
    tmp_path: Path,
    way: str,
    size: int,
) -> None:
    if way == "tls":
        base = f"https://localhost:{secure.port}/v2/curl/{way}/blobs"
        options: tuple[str | Path, ...] = ("--http2", "--cacert", authority.certificate)
    else:
        base = f"{clear.url}/v2/curl/{way}/blobs"
        options = ("--http2-prior-knowledge",) if way == "prior" else ("--http2",)
    data = os.urandom(size)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(data)
    head = run("curl", "-s", "-S", *options, "-i", "-X", "POST", f"{base}/uploads/")
    location = head.lower().split("\nlocation: ")[1].split()[0]
    put = with_query(location, digest=digest)
    assert curl(*options, "-T", source, put).endswith(" 201")
    assert curl(*options, "-o", copy, f"{base}/{digest}").endswith("2 200")
    assert copy.read_bytes() == data


def test_a_pull_is_finished_while_the_service_ends(tmp_path: Path) -> None:
    data = os.urandom(12 << 20)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    http = {"h2c": {"enabled": True}, "draintimeout": "20s"}
    with live_registry(tmp_path, http=http) as live:
        with RegistryClient(live.address) as client:
            client.push_blob("a", data)
        copy = tmp_path / "copy"
        url = f"{live.url}/v2/a/blobs/{digest}"
        pull = subprocess.Popen(
            [
                require("curl"),
                "-sS",
                "--http2-prior-knowledge",
                "--limit-rate",
                "6M",
                "-o",
                copy,
                url,
            ]
        )
        until(lambda: copy.exists() and copy.stat().st_size > 0)
        assert live.stop(seconds=20) == 0
        assert pull.wait(20) == 0
        assert copy.read_bytes() == data


async def test_many_requests_of_httpx_share_a_connection(
    secure: LiveRegistry, authority: Authority
) -> None:
    async with httpx.AsyncClient(http2=True, verify=context(authority)) as client:
        url = f"https://localhost:{secure.port}/v2/"
        await client.get(url)
        answers = await asyncio.gather(*(client.get(url) for _ in range(80)))
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    assert {answer.status_code for answer in answers} == {200}


@asynccontextmanager
async def served_securely(pair: Pair, limits: ConnectionLimits) -> AsyncIterator[int]:
    """Serve a probe by TLS; yield its port."""
    settings = TLSSettings(certificate=str(pair.certificate), key=str(pair.key))
    certificates = ConfiguredCertificate(settings, http2=True)
    acceptor = Acceptor(Probe(), limits, certificates, HTTP2Connection)
    listening = socket.create_server(("127.0.0.1", 0))
    await acceptor.start([listening])
    try:
        yield listening.getsockname()[1]
    finally:
        await acceptor.stop(0, asyncio.Event())


async def test_one_connection_too_many_is_told_so(pair: Pair, authority: Authority) -> None:
    async with served_securely(pair, ConnectionLimits(connections=1)) as port:
        trust = context(authority, "h2")
        first, second = [
            Client(*await asyncio.open_connection("localhost", port, ssl=trust)) for _ in range(2)
        ]
        first.start()
        assert await first.works()
        second.start()
        assert await second.goaway() == ErrorCodes.ENHANCE_YOUR_CALM
        await second.end()
        assert await first.works()
        await first.close()
        await second.close()


def test_h2load_finds_every_request_answered(secure: LiveRegistry) -> None:
    url = f"https://localhost:{secure.port}/v2/"
    report = run("h2load", "-n", "2000", "-c", "4", "-m", "50", url)
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in report
    assert "Application protocol: h2" in report


def test_nghttp_finds_nothing_wrong(secure: LiveRegistry) -> None:
    report = run("nghttp", "-v", "-n", f"https://localhost:{secure.port}/v2/")
    assert ":status: 200" in report
    assert "error_code=NO_ERROR(0x00)" in report


async def test_h2spec_finds_nothing_wrong(pair: Pair) -> None:
    """All sections, as published; ``/echo`` answers when the body is complete, not before."""
    async with served_securely(pair, ConnectionLimits()) as port:
        process = await asyncio.create_subprocess_exec(
            *(require("h2spec"), "-t", "-k", "-h", "127.0.0.1", "-p", str(port), "-P", "/echo"),
            stdout=subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), H2SPEC_SECONDS)
    assert b" 0 failed" in output, output.decode()[-5000:]
    assert process.returncode == 0
