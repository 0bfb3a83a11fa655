"""Workloads on a live service: the keys are fetched from an issuer that tells where they are."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from typing_extensions import override

from tests.serving.live_registry import LiveRegistry, live_registry, write_configuration
from tests.unit.auth.signed import sign


class Issuer:
    """An issuer of tokens.

    Attributes:
        url: where it is.
        silent: whether it takes connections and answers nothing.
    """

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256")
        self.asked: list[str] = []
        self.silent = threading.Event()
        self.ended = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def token(self, **over: object) -> str:
        now = int(time.time())
        given = {"iss": self.url, "aud": "registry", "nbf": now, "exp": now + 300, "job": "build"}
        return sign(self._key, {"alg": "ES256", "kid": "key"}, given | over)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                if issuer.silent.is_set():
                    issuer.ended.wait(30)
                    return
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(issuer.page(self.path)).encode())

            @override
            def log_message(self, *_: object) -> None:
                pass

        return Pages

    def page(self, path: str) -> dict[str, Any]:
        if path == "/keys":
            return {"keys": [{**self._key.as_dict(private=False), "kid": "key"}]}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    threading.Thread(target=issuer.server.serve_forever, daemon=True).start()
    yield issuer
    issuer.ended.set()
    issuer.server.shutdown()
    issuer.server.server_close()


def access(issuer: Issuer, job: str = "build") -> dict[str, Any]:
    trusted = {
        "issuer": issuer.url,
        "audience": "registry",
        "conditions": {"job": job},
        "principal": "robot:ci:{job}",
    }
    rule = {"repositories": ["**"], "actions": ["pull"], "who": ["robot:ci:build"]}
    return {"oidc": [trusted], "rules": [rule]}


def status(live: LiveRegistry, token: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=15)
    connection.request("GET", "/v2/a/tags/list", headers={"Authorization": f"Bearer {token}"})
    found = connection.getresponse().status
    connection.close()
    return found


def test_keys_are_fetched_once_and_rules_can_change(tmp_path: Path, issuer: Issuer) -> None:
    with live_registry(tmp_path, access=access(issuer)) as live:
        assert issuer.asked == []
        assert [status(live, issuer.token()) for _ in range(3)] == [404, 404, 404]
        assert [status(live, issuer.token(job="other"))] == [401]
        write_configuration(tmp_path, access=access(issuer, "other"))
        live.process.send_signal(1)
        deadline = time.monotonic() + 10
        while status(live, issuer.token()) != 401:
            assert time.monotonic() < deadline
        assert status(live, issuer.token(job="other")) == 403
        assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


def test_an_issuer_that_is_silent_holds_nobody_else_up(tmp_path: Path, issuer: Issuer) -> None:
    issuer.silent.set()
    with live_registry(tmp_path, access=access(issuer)) as live:
        found: list[int] = []
        waiting = threading.Thread(target=lambda: found.append(status(live, issuer.token())))
        waiting.start()
        began = time.monotonic()
        while not issuer.asked:
            assert time.monotonic() - began < 10
        connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=5)
        connection.request("GET", "/v2/")
        assert connection.getresponse().status == 401
        assert time.monotonic() - began < 4
        connection.close()
        waiting.join(15)
        assert found == [401]
        assert "keys of an issuer can't be fetched" in live.log
        assert live.stop() == 0
