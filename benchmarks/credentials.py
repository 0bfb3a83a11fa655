"""Certificates, a token and a password, as the rows with access rules and with TLS need them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey

from benchmarks.content import REPOSITORY


LASTING: Final = timedelta(days=1)
SERVICE: Final = "bench"
PASSWORD: Final = b"bench"


@dataclass(frozen=True, slots=True)
class Gate:
    """A way to let somebody in.

    Attributes:
        sections: of the configuration.
        authorization: the header field of who is let in.
    """

    sections: Mapping[str, Any]
    authorization: str


def certificate(path: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Make a key and a certificate that it signed itself; write them to `path` and ``.key``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)  # noqa: TID251 -- a certificate of today
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LASTING)
        .not_valid_after(now + LASTING)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return key, made


def token(folder: Path) -> Gate:
    """Return the gate of a token server, and a token that it would have given."""
    key, made = certificate(folder / "token.pem")
    chain = [base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()]
    now = datetime.now(UTC)  # noqa: TID251 -- a token of today
    claims = {
        "iss": SERVICE,
        "aud": SERVICE,
        "sub": "bench",
        "nbf": int((now - LASTING).timestamp()),
        "exp": int((now + LASTING).timestamp()),
        "access": [{"type": "repository", "name": REPOSITORY, "actions": ["pull"]}],
    }
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    signed = jwt.encode({"alg": "ES256", "x5c": chain}, claims, ECKey.import_key(pem))
    settings = {
        "realm": "http://localhost/token",
        "service": SERVICE,
        "issuer": SERVICE,
        "rootcertbundle": str(folder / "token.pem"),
    }
    return Gate({"auth": {"token": settings}}, f"Bearer {signed}")


def htpasswd(folder: Path) -> Gate:
    """Return the gate of a file of users, and one of them."""
    hashed = bcrypt.hashpw(PASSWORD, bcrypt.gensalt()).decode()
    (folder / "htpasswd").write_text(f"bench:{hashed}\n")
    settings = {"realm": "bench", "path": str(folder / "htpasswd")}
    login = base64.b64encode(b"bench:" + PASSWORD).decode()
    return Gate({"auth": {"htpasswd": settings}}, f"Basic {login}")


GATES: Final = {"token": token, "htpasswd": htpasswd}
