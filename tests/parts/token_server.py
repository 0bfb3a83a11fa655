"""A small token server, as teams have one beside docker-distribution: passwords in, tokens out.

Source: distribution v3.1.1, docs/spec/auth/token.md and oauth.md.
"""

import base64
import json
import ssl
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey
from typing_extensions import override

from dockyard.clock import utc_now
from tests.parts.authority import Pair
from tests.unit.auth.signed import certificate, pem, sign, x5c


SERVICE: Final = "registry.example"
ISSUER: Final = "tokens.example"
PASSWORDS: Final = {"pusher": "secret", "reader": "secret"}
PULLING: Final = frozenset({"pull"})
GRANTS: Final[Mapping[str, Collection[str]]] = {
    "pusher": {"pull", "push", "delete"},
    "reader": PULLING,
    "": PULLING,
}
"""What each may below ``open/``, and everybody; elsewhere nobody may anything."""


class _Handler(BaseHTTPRequestHandler):
    key: ClassVar[ECKey]
    chain: ClassVar[list[str]]

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        login, password = self._credentials()
        self._answer(query.get("scope", []), login, password)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        scopes = form.get("scope", [""])[0].split()
        self._answer(scopes, form.get("username", [""])[0], form.get("password", [""])[0])

    def _credentials(self) -> tuple[str, str]:
        kind, _, encoded = self.headers.get("Authorization", "").partition(" ")
        if kind != "Basic":
            return "", ""
        login, _, password = base64.b64decode(encoded).decode().partition(":")
        return login, password

    def _answer(self, scopes: Collection[str], login: str, password: str) -> None:
        if login and PASSWORDS.get(login) != password:
            self._send(401, {"details": "incorrect username or password"})
            return
        access = [_granted(scope, login) for scope in scopes if scope.count(":") > 1]
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": SERVICE, "sub": login, "exp": now + 300, "nbf": now - 5}
        header = {"typ": "JWT", "alg": "ES256", "x5c": self.chain}
        token = sign(self.key, header, {**claims, "iat": now, "jti": "1", "access": access})
        self._send(200, {"token": token, "access_token": token, "expires_in": 300})

    def _send(self, status: int, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests look at what clients see."""


def _granted(scope: str, login: str) -> dict[str, object]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    may = GRANTS[login] if kind == "repository" and name.startswith("open/") else ()
    return {"type": kind, "name": name, "actions": [a for a in actions.split(",") if a in may]}


@contextmanager
def token_server(
    folder: Path, address: str = "127.0.0.1", pair: Pair | None = None
) -> Iterator[dict[str, Any]]:
    """Run one; yield the registry's section ``auth.token`` for it.

    Args:
        folder: has the certificate that its tokens are signed with.
        address: where it listens.
        pair: its certificate for TLS; without one it speaks none.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    ours = certificate("tokens", private, now=utc_now())
    content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    handler = type("Handler", (_Handler,), {"key": ECKey.import_key(content), "chain": x5c(ours)})
    bundle = folder / "tokens.pem"
    bundle.write_bytes(pem(ours))
    with ThreadingHTTPServer((address, 0), handler) as server:
        if pair is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(pair.certificate, pair.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if pair is None else "https"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {
                "realm": f"{scheme}://{address}:{server.server_port}/token",
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(bundle),
            }
        finally:
            server.shutdown()
            thread.join()
