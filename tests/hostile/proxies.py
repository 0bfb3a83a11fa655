"""nginx and haproxy in front of a registry, as people run them, on ports of the loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.parts.daemon import Daemon, accepts, free_port
from tests.parts.programs import require


NGINX: Final = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream registry {{ server 127.0.0.1:{backend}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 0;
    location / {{
      proxy_pass http://registry;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
"""

HAPROXY: Final = """
global
  maxconn 256
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
  option http-keep-alive
  http-reuse always
frontend clients
  bind 127.0.0.1:{port}
  option forwardfor
  default_backend registry
backend registry
  server registry 127.0.0.1:{backend}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that runs.

    Attributes:
        name: its program.
        port: where it listens.
    """

    name: str
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def nginx(folder: Path, backend: int) -> Iterator[Proxy]:
    """Run nginx in front of the port `backend`."""
    folder.mkdir()
    port = free_port()
    user = "user root;" if folder.stat().st_uid == 0 else ""  # else it could not write below
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, backend=backend, user=user))
    command = [require("nginx"), "-p", str(folder), "-c", str(config), "-e", "stderr"]
    with Daemon(command, folder / "log") as daemon:
        daemon.wait_until(lambda: accepts(port))
        yield Proxy("nginx", port)


@contextmanager
def haproxy(folder: Path, backend: int) -> Iterator[Proxy]:
    """Run haproxy in front of the port `backend`."""
    folder.mkdir()
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, backend=backend))
    with Daemon([require("haproxy"), "-db", "-f", str(config)], folder / "log") as daemon:
        daemon.wait_until(lambda: accepts(port))
        yield Proxy("haproxy", port)
