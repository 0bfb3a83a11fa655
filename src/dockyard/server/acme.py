"""A client of ACME authorities such as Let's Encrypt, as far as a registry needs it. It blocks.

One certificate for one name, proved by TLS-ALPN-01: the authority connects to port 443 of the name
and wants to see a certificate that only the owner of the account can make.

Source: RFC 8555 and RFC 8737.
"""

import hashlib
import json
import ssl
import time
import urllib.error
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"
"""The authority unless the configuration names another."""

CHALLENGE: Final = "acme-tls/1"
"""The protocol that an authority offers when it looks for the proof."""

ANSWER_SECONDS: Final = 20.0
"""How long the authority may be silent within an answer."""

ANSWER_BYTES: Final = 1 << 20
"""Longest answer; certificates have a few KiB."""

POLL_SECONDS: Final = 2.0
"""Pause before asking again whether the authority is done."""

ISSUE_SECONDS: Final = 120.0
"""How long an order may take: Let's Encrypt needs some ten seconds."""

NONCE_TRIES: Final = 5
"""Times a request is repeated whose nonce the authority does not take any more."""

_CHALLENGE_OID: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_AGENT: Final = "dockyard"
_COORDINATE_BYTES: Final = 32
_DETAIL: Final = 200


class AcmeError(Exception):
    """No certificate was issued; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class _Answer:
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Mapping[str, Any]:
        try:
            found = json.loads(self.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise AcmeError("the authority's answer is no JSON object")
        return found


class _ProblemError(AcmeError):
    """The authority says what is wrong.

    Attributes:
        kind: its name for that.
    """

    def __init__(self, status: int, body: bytes) -> None:
        try:
            problem = json.loads(body)
        except ValueError:
            problem = {}
        problem = problem if isinstance(problem, dict) else {}
        self.kind = str(problem.get("type", "")).rpartition(":")[2]
        said = str(problem.get("detail", "no reason given"))[:_DETAIL]
        super().__init__(f"the authority answers {status} {self.kind}: {said}")


class AcmeClient:
    """An account at an authority.

    Args:
        directory: URL of the authority's directory.
        key: of the account, on the curve P-256. The account is made if there is none.
        email: where the authority may write to.
    """

    def __init__(self, directory: str, key: ec.EllipticCurvePrivateKey, email: str | None) -> None:
        self._directory_url: Final = directory
        self._key: Final = key
        self._email: Final = email
        # SSL_CERT_FILE and the machine's store say whom to trust, as with distribution.
        self._trust: Final = ssl.create_default_context()
        self._directory: Mapping[str, Any] = {}
        self._account = ""
        self._nonce = ""

    def obtain(
        self, host: str, key: ec.EllipticCurvePrivateKey, publish: Callable[[str], None]
    ) -> bytes:
        """Return the chain of a certificate for `host` and `key`, in PEM form.

        Args:
            host: the name.
            key: the certificate's.
            publish: called with what `challenge_certificate` proves; when it returns, whoever
                connects and offers `CHALLENGE` must be shown that.

        Raises:
            AcmeError: the authority can't be reached, refuses, or takes too long.
        """
        deadline = time.monotonic() + ISSUE_SECONDS
        self._sign_in()
        identifiers = [{"type": "dns", "value": host}]
        answer = self._post(self._place("newOrder"), {"identifiers": identifiers})
        order, where = answer.json(), answer.headers.get("location", "")
        for authorization in order.get("authorizations", ()):
            self._authorize(str(authorization), publish, deadline)
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        encoded = _base64(request.public_bytes(Encoding.DER))
        order = self._post(str(order.get("finalize")), {"csr": encoded}).json()
        if order.get("status") != "valid":
            order = self._wait(where, deadline)
        return self._post(str(order.get("certificate")), None).body

    def _sign_in(self) -> None:
        if not self._directory:
            self._directory = self._request(self._directory_url).json()
        if not self._account:
            payload: dict[str, Any] = {"termsOfServiceAgreed": True}
            if self._email:
                payload["contact"] = [f"mailto:{self._email}"]
            answer = self._post(self._place("newAccount"), payload)
            self._account = answer.headers.get("location", "")

    def _place(self, name: str) -> str:
        return str(self._directory.get(name, ""))

    def _authorize(self, where: str, publish: Callable[[str], None], deadline: float) -> None:
        """Prove that the name of an authorization is ours."""
        authorization = self._post(where, None).json()
        if authorization.get("status") == "valid":
            return
        for challenge in authorization.get("challenges", ()):
            if challenge.get("type") == "tls-alpn-01":
                publish(f"{challenge.get('token')}.{_thumbprint(self._key)}")
                self._post(str(challenge.get("url")), {})
                self._wait(where, deadline)
                return
        raise AcmeError("the authority does not offer tls-alpn-01, the only proof we can give")

    def _wait(self, where: str, deadline: float) -> Mapping[str, Any]:
        """Return what is at `where` once the authority calls it valid."""
        while True:
            found = self._post(where, None).json()
            match found.get("status"):
                case "valid":
                    return found
                case "pending" | "processing" | "ready":
                    pass
                case status:
                    raise AcmeError(f"the authority calls it {status}: {_reason(found)}")
            if time.monotonic() + POLL_SECONDS > deadline:
                raise AcmeError(f"the authority is not done after {ISSUE_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def _post(self, url: str, payload: Mapping[str, Any] | None) -> _Answer:
        """Return the answer to a signed request; without `payload` it only asks."""
        for _ in range(NONCE_TRIES):
            if not self._nonce:
                self._request(self._place("newNonce"), method="HEAD")
            nonce, self._nonce = self._nonce, ""
            try:
                return self._request(url, self._signed(url, nonce, payload))
            except _ProblemError as problem:
                if problem.kind != "badNonce":
                    raise
        raise AcmeError("the authority takes none of its own nonces")

    def _signed(self, url: str, nonce: str, payload: Mapping[str, Any] | None) -> bytes:
        head: dict[str, Any] = {"alg": "ES256", "nonce": nonce, "url": url}
        if self._account:
            head["kid"] = self._account
        else:
            head["jwk"] = _public(self._key)
        protected = _base64(json.dumps(head).encode())
        text = "" if payload is None else _base64(json.dumps(payload).encode())
        signature = self._key.sign(f"{protected}.{text}".encode(), ec.ECDSA(hashes.SHA256()))
        pair = b"".join(
            part.to_bytes(_COORDINATE_BYTES, "big") for part in decode_dss_signature(signature)
        )
        signed = {"protected": protected, "payload": text, "signature": _base64(pair)}
        return json.dumps(signed).encode()

    def _request(self, url: str, body: bytes | None = None, method: str | None = None) -> _Answer:
        if not url.startswith("https://"):
            raise AcmeError(f"the authority names a place that is not https: {url[:_DETAIL]!r}")
        headers = {"User-Agent": _AGENT, "Content-Type": "application/jose+json"}
        request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 -- checked above
        try:
            with urllib.request.urlopen(  # noqa: S310 -- likewise
                request, timeout=ANSWER_SECONDS, context=self._trust
            ) as answer:
                found = {name.lower(): value for name, value in answer.headers.items()}
                self._nonce = found.get("replay-nonce", "")
                return _Answer(found, answer.read(ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                self._nonce = error.headers.get("Replay-Nonce", "")
                raise _ProblemError(HTTPStatus(error.code), error.read(ANSWER_BYTES)) from error
        except OSError as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise AcmeError(f"can't reach {url[:_DETAIL]}: {reason}") from error
        except ValueError as error:  # what is no HTTP
            raise AcmeError(f"can't read the answer of {url[:_DETAIL]}") from error


def _reason(found: Mapping[str, Any]) -> str:
    """Return why an authorization or order failed."""
    problems = [found, *found.get("challenges", ())]
    said = (each.get("error", {}).get("detail") for each in problems if isinstance(each, dict))
    return next((str(text)[:_DETAIL] for text in said if text), "no reason given")


def challenge_certificate(host: str, proof: str, now: datetime) -> bytes:
    """Return, in PEM form, a key and the certificate that proves `proof` for `host`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    digest = hashlib.sha256(proof.encode()).digest()
    proved = x509.UnrecognizedExtension(_CHALLENGE_OID, b"\x04\x20" + digest)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(proved, critical=True)
        .sign(key, hashes.SHA256())
    )
    return encoded_key(key) + certificate.public_bytes(Encoding.PEM)


def encoded_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key in PEM form, as Go's autocert writes it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _public(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    x, y = (_base64(part.to_bytes(_COORDINATE_BYTES, "big")) for part in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def _thumbprint(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a key's name. Source: RFC 7638."""
    text = json.dumps(_public(key), sort_keys=True, separators=(",", ":"))
    return _base64(hashlib.sha256(text.encode()).digest())


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
