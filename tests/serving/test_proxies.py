"""The ambiguous requests of `test_smuggling` again, behind nginx and haproxy.

The proxy and we must agree on where each request ends. Behind each case comes a request with a path
of its own; if we see one that the proxy does not know of, it was smuggled.
"""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.serving.live_registry import until
from tests.serving.probe import Served, eventually
from tests.serving.test_smuggling import BAD_CHUNKS, REFUSED, post


CASES = {
    **{name: request for name, (_, request) in REFUSED.items()},
    **{
        f"chunks-{name}": post(b"Transfer-Encoding: chunked", body=chunks)
        for name, chunks in BAD_CHUNKS.items()
    },
    "good-chunked": post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
    "good-length": post(b"Content-Length: 3", body=b"abc"),
}

NGINX = """
daemon off; master_process off; pid {directory}/pid; error_log {directory}/error;
events {{ worker_connections 256; }}
http {{
  log_format forwarded '$request_method $request_uri';
  access_log {directory}/log forwarded;
  client_body_temp_path {directory}/a; proxy_temp_path {directory}/b;
  fastcgi_temp_path {directory}/c; uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
  upstream registry {{ server 127.0.0.1:{server}; keepalive 1; }}
  server {{
    listen 127.0.0.1:{port};
    client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s;
    location / {{
      proxy_pass http://registry; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_next_upstream off;
    }}
  }}
}}
"""

HAPROXY = """
global
  log stdout format raw local0
defaults
  mode http
  log global
  timeout client 1s
  timeout server 5s
  timeout connect 5s
  timeout http-request 1s
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  log-format "%HM %HU"
  default_backend b
backend b
  server s 127.0.0.1:{server} maxconn 1
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(port: int, output: Path, *command: str) -> Iterator[None]:
    with output.open("wb") as stdout:
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None, "the proxy ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        until(answers)
        yield
    finally:
        process.kill()
        process.wait()


async def send_all(port: int) -> None:
    """Send every case, with a request behind it, on connections of their own."""

    async def send(name: str, case: bytes) -> None:
        with suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(case + b"GET /smuggled/%b HTTP/1.1\r\nHost: a\r\n\r\n" % name.encode())
            await asyncio.wait_for(reader.read(-1), 1.5)
            writer.close()

    await asyncio.gather(*(send(name, case) for name, case in CASES.items()))


def smuggled(served: Served, known: list[str]) -> set[str]:
    """Return the requests that the application saw and the proxy, by its log, did not."""
    return {f"{method} {path.decode()}" for method, path, _ in served.probe.seen} - set(known)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
async def test_nginx_and_we_see_the_same_requests(served: Served, tmp_path: Path) -> None:
    port = free_port()
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(NGINX.format(directory=tmp_path, port=port, server=served.port))
    with running(port, tmp_path / "out", "nginx", "-c", str(configuration)):
        await send_all(port)
        log = tmp_path / "log"
        # A line may come after the answer; a request that was smuggled never gets one.
        await eventually(lambda: not smuggled(served, log.read_text().splitlines()))
    assert {"/smuggled/good-length", "/smuggled/good-chunked"} <= paths(served)


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
async def test_haproxy_and_we_see_the_same_requests(served: Served, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    configuration = tmp_path / "haproxy.conf"
    configuration.write_text(HAPROXY.format(port=port, server=served.port))
    with running(port, log, "haproxy", "-f", str(configuration)):
        await send_all(port)
        # A line may come after the answer; a request that was smuggled never gets one.
        await eventually(lambda: not smuggled(served, log.read_text().splitlines()))
    assert {"/smuggled/good-length", "/smuggled/good-chunked"} <= paths(served)


def paths(served: Served) -> set[str]:
    return {path.decode() for _, path, _ in served.probe.seen}
