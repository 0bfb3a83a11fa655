"""Each route for those who come without a password of theirs: keys, workloads, certificates.

With passwords, with our tokens and without anything: `tests/api/test_access.py`.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from dockyard.auth.actions import Action
from dockyard.clock import utc_now
from dockyard.http.messages import Receive, Scope, Send
from dockyard.http.routes import ROUTES, Route
from tests.api.entrance import HASH, MAY, RULES, basic, bearer
from tests.api.test_access import refused, target
from tests.api.test_workloads import ISSUER, KEY, token
from tests.inprocess import BASE, application
from tests.unit.auth.signed import certificate


EVERYTHING: Final = MAY["admin"]
PRIVATE: Final = ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How somebody comes.

    Attributes:
        may: what they may do to ``team/a``.
        key: the API key that they come with.
        workload: whether they come with a token of their issuer.
        shown: the common name of the certificate that they show.
    """

    may: frozenset[Action] | set[Action]
    key: Mapping[str, Any] | None = None
    workload: bool = False
    shown: str = ""


WAYS: Final[Mapping[str, Way]] = {
    "key": Way(may=MAY["pusher"], key={"owner": "pusher"}),
    "key-of-robot": Way(may=MAY["robot$ci"], key={"owner": "robot$ci"}),
    "key-of-admin": Way(may=EVERYTHING, key={"owner": "admin"}),
    "key-to-pull": Way(may={Action.PULL}, key={"owner": "admin", "actions": ["pull"]}),
    "key-for-others": Way(
        may={Action.CATALOG}, key={"owner": "admin", "repositories": ["other/*"]}
    ),
    "workload": Way(may=MAY["robot$ci"], workload=True),
    "certificate": Way(may=EVERYTHING, shown="admin"),
    "certificate-of-another": Way(may=MAY[""], shown="other"),
}


class Showing:
    """The application, as a client finds it that shows a certificate."""

    def __init__(self, served: Any, name: str) -> None:  # noqa: ANN401 -- an ASGI application
        self._served = served
        self._facts: dict[str, object] = {}
        if name:
            shown = certificate(name, PRIVATE, now=utc_now())
            chain = (shown.public_bytes(Encoding.PEM).decode(),)
            self._facts = {"client_cert_chain": chain}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._served({**scope, "extensions": {"tls": self._facts}}, receive, send)


@asynccontextmanager
async def opened(folder: Path, way: Way) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, str]]]:
    """Open a registry that takes all ways; yield a client of it, and what proves who it is."""
    users = folder / "htpasswd"
    users.write_text("".join(f"{name}:{HASH}\n" for name in ("reader", "pusher", "admin")))
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [{**KEY.as_dict(private=False), "kid": "key"}]}))
    issuer = {
        "issuer": ISSUER,
        "audience": "registry",
        "jwks": str(keys),
        "conditions": {"repository": "octo/app"},
        "principal": "robot:ci",
    }
    access = {
        "groups": {"admins": ["admin"]},
        "robots": {"ci": {}},
        "rules": RULES,
        "oidc": [issuer],
        "certificates": [{"cn": "admin", "principal": "admin"}],
    }
    served = application(
        folder,
        auth={"htpasswd": {"realm": "registry", "path": str(users)}},
        access=access,
        http={"tls": {"certificate": "c", "key": "k", "clientcas": ["a"]}},
    )
    transport = httpx.ASGITransport(Showing(served, way.shown))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client, await _proof(client, way)


async def _proof(client: httpx.AsyncClient, way: Way) -> dict[str, str]:
    if way.workload:
        return bearer(token())
    if way.key is None:
        return {}
    wish = {"name": "own", **way.key}
    answer = await client.post("/v2/_dockyard/keys", json=wish, headers=basic("admin"))
    assert answer.status_code == 201, answer.text
    return basic(str(way.key["owner"]), str(answer.json()["secret"]))


EACH: Final = [
    pytest.param(route, way, id=f"{name} {route.method} {route.path}")
    for route in ROUTES
    for name, way in WAYS.items()
]


@pytest.mark.parametrize(("route", "way"), EACH)
async def test_everybody_gets_in_where_they_may(route: Route, way: Way, tmp_path: Path) -> None:
    async with opened(tmp_path, way) as (client, proof):
        answer = await client.request(route.method, target(route), headers=proof)
        known = bool(proof) or way.shown == "admin"
        if route.endpoint == "create-key" and way.key is not None:
            assert answer.status_code == 403  # a key makes no key
        elif route.needs is Action.BASE:
            assert answer.status_code == (200 if known else 401)
        else:
            refused(answer.status_code, "somebody" if known else "", route.needs, way.may)
