"""nginx in front sends the blobs itself, by the configuration of the how-to."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.serving.live_registry import LiveRegistry, live_registry
from tests.serving.test_proxies import free_port, running


HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "behind-a-proxy.md"
LOCATION = "/dockyard-blobs/"
BLOB = bytes(range(256)) * 4096
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
WHERE = f"/v2/a/b/blobs/{DIGEST}"

NGINX = """
user root; daemon off; master_process off; pid {directory}/pid; error_log {directory}/error;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {directory}/a; proxy_temp_path {directory}/b;
  fastcgi_temp_path {directory}/c; uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
  client_max_body_size 0;
  server {{
    listen 127.0.0.1:{port};
    location /v2/ {{
      proxy_pass http://127.0.0.1:{registry}; proxy_set_header Host $http_host;
      {fields}
    }}
    {location}
  }}
}}
"""

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


def documented(root: Path) -> tuple[str, str]:
    """Return the fields and the location that the how-to adds, for the storage in `root`."""
    text = HOW_TO.read_text(encoding="utf-8")
    section = text.partition("### Let nginx send the blobs")[2]
    fields = "\n".join(re.findall(r"proxy_set_header X-.*", section))
    location = re.search(rf"location {LOCATION} {{.*?\n    }}", section, re.DOTALL)
    assert location is not None
    assert "X-Sendfile-Type" in fields
    return fields, location[0].replace("/var/lib/registry", str(root))


@contextmanager
def fronted(folder: Path) -> Iterator[tuple[LiveRegistry, httpx.Client]]:
    """Run both; yield the registry, and a client of nginx, with a blob pushed through it."""
    with live_registry(folder, http={"accelredirect": LOCATION}) as registry:
        port = free_port()
        fields, location = documented(folder / "data")
        configuration = folder / "nginx.conf"
        configuration.write_text(
            NGINX.format(
                directory=folder,
                port=port,
                registry=registry.port,
                fields=fields,
                location=location,
            )
        )
        with (
            running(port, folder / "output", "nginx", "-c", str(configuration)),
            httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            pushed = client.post(f"/v2/a/b/blobs/uploads/?digest={DIGEST}", content=BLOB)
            assert pushed.status_code == 201, pushed.text
            yield registry, client


def test_nginx_sends_what_the_registry_names(tmp_path: Path) -> None:
    with fronted(tmp_path) as (registry, client):
        answer = client.get(WHERE)
        assert answer.status_code == 200
        assert answer.content == BLOB
        assert answer.headers["Docker-Content-Digest"] == DIGEST
        assert answer.headers["ETag"] == f'"{DIGEST}"'
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Cache-Control"] == "max-age=31536000"
        assert "X-Accel-Redirect" not in answer.headers
        assert f'{WHERE} HTTP/1.0" 200 0 ' in registry.access_log  # nginx sent it, not we

        part = client.get(WHERE, headers={"Range": "bytes=1000-1999"})
        assert part.status_code == 206
        assert part.content == BLOB[1000:2000]
        head = client.head(WHERE)
        assert head.headers["Content-Length"] == str(len(BLOB))


def test_what_the_repository_does_not_have_is_unknown(tmp_path: Path) -> None:
    with fronted(tmp_path) as (_, client):
        answer = client.get(WHERE.replace("/a/b/", "/c/"))
        assert answer.status_code == 404
        assert answer.json()["errors"][0]["code"] == "BLOB_UNKNOWN"
        assert client.get(f"{LOCATION}sha256/{DIGEST[7:9]}/{DIGEST[7:]}/data").status_code == 404


def test_who_comes_past_nginx_gets_the_bytes(tmp_path: Path) -> None:
    with fronted(tmp_path) as (registry, client):
        assert httpx.get(registry.url + WHERE).content == BLOB
        # Nobody can reach a file through nginx by claiming to be nginx.
        forged = {"X-Accel-Redirect": f"{LOCATION}x", "X-Sendfile-Type": "none"}
        assert client.get(WHERE, headers=forged).content == BLOB
