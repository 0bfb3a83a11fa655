"""Who shows a certificate, on a live service: rules about them, beside passwords."""

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.parts.authority import Authority
from tests.serving.live_registry import LiveRegistry, live_registry
from tests.serving.probe import statuses
from tests.serving.test_tls import ask, client


HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def registry(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[LiveRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    own = authority.issue("server")
    tls = {
        "certificate": str(own.certificate),
        "key": str(own.key),
        "clientcas": [str(authority.certificate)],
        "clientauth": "verify-client-cert-if-given",
    }
    access = {
        "robots": {"pusher": {"hash": HASH}},
        "certificates": [
            {"dns": "*.nodes.example", "principal": "robot:node", "groups": ["machines"]},
            {"cn": "alice", "principal": "alice"},
        ],
        "rules": [
            {"repositories": ["a"], "actions": ["pull"], "who": ["robot:node", "robot:pusher"]},
            {"repositories": ["b"], "actions": ["pull"], "who": ["group:machines"]},
            {"repositories": ["c"], "actions": ["pull"], "who": ["user:alice"]},
        ],
    }
    audit = {"enabled": True, "path": str(folder / "audit.log")}
    with live_registry(folder, http={"tls": tls}, access=access, audit=audit) as live:
        yield live


def status(registry: LiveRegistry, context: ssl.SSLContext, path: str, password: str = "") -> int:
    login = base64.b64encode(f"robot$pusher:{password}".encode()).decode()
    authorization = f"Authorization: Basic {login}\r\n" if password else ""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Connection: close\r\n\r\n"
    (found,) = statuses(ask(registry.port, context, request.encode()))
    return found


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("x", "n1.nodes.example", {"/v2/": 200, "a": 404, "b": 404, "c": 403}),
        ("alice", "elsewhere.example", {"/v2/": 200, "a": 403, "b": 403, "c": 404}),
        ("x", "deep.n1.nodes.example", {"/v2/": 401, "a": 401, "b": 401, "c": 401}),
        ("", "", {"/v2/": 401, "a": 401, "b": 401, "c": 401}),
    ],
)
def test_rules_are_about_who_shows_a_certificate(
    registry: LiveRegistry, authority: Authority, name: str, host: str, expected: dict[str, int]
) -> None:
    shown = client(authority, authority.issue(name, [host]) if name else None)
    found = {
        path: status(registry, shown, path if "/" in path else f"/v2/{path}/tags/list")
        for path in expected
    }
    assert found == expected


def test_who_sends_a_password_is_who_that_is_of(
    registry: LiveRegistry, authority: Authority
) -> None:
    shown = client(authority, authority.issue("alice"))
    assert status(registry, shown, "/v2/c/tags/list", "secret") == 403
    assert status(registry, shown, "/v2/a/tags/list", "secret") == 404
    assert status(registry, shown, "/v2/c/tags/list", "wrong") == 401


def test_the_audit_log_names_them(registry: LiveRegistry, authority: Authority) -> None:
    node = client(authority, authority.issue("x", ["n2.nodes.example"]))
    assert status(registry, node, "/v2/c/tags/list") == 403
    lines = Path(registry.directory / "audit.log").read_text().splitlines()
    event = json.loads(lines[-1])
    assert (event["kind"], event["name"], event["groups"]) == ("robot", "node", ["machines"])
