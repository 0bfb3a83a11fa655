"""The keys that tokens may be signed with: certificates, JWKS, and the names of keys.

A key of the certificates goes by two names: the thumbprint of RFC 7638, as distribution 3 has it,
and the identifier of libtrust, as distribution 2 has it.

Source: distribution v3.1.1, registry/auth/token; github.com/docker/libtrust, key.go.
"""

import base64
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from joserfc import jwk
from joserfc.errors import JoseError, SecurityWarning


Key: TypeAlias = jwk.RSAKey | jwk.ECKey | jwk.OctKey | jwk.OKPKey

CHAIN_LIMIT: Final = 8
"""Certificates of a chain, at most."""

KEY_FILE_LIMIT: Final = 4 << 20
"""Bytes of a file of certificates or keys, at most."""


class KeysInvalidError(Exception):
    """A file of keys can't be used; the message says which, and why."""


class ChainInvalidError(Exception):
    """A chain of certificates does not lead to one that is trusted."""


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """What a token may be signed with.

    Attributes:
        by_name: keys by each of their names.
        roots: certificates under which others may be issued.
    """

    by_name: Mapping[str, Key]
    roots: Sequence[x509.Certificate] = ()

    def of_chain(self, chain: Sequence[bytes], now: datetime) -> Key:
        """Return the key of the first certificate of `chain` (DER), which leads to a root.

        Raises:
            ChainInvalidError: it does not, or not now.
        """
        if not 1 <= len(chain) <= CHAIN_LIMIT:
            raise ChainInvalidError(f"a chain has 1 to {CHAIN_LIMIT} certificates")
        try:
            leaf, *others = [x509.load_der_x509_certificate(der) for der in chain]
            self._verify(leaf, others, now)
            return key_of(leaf)
        except (ValueError, TypeError, UnsupportedAlgorithm, VerificationError) as error:
            raise ChainInvalidError(str(error)[:200] or "no certificates") from error

    def _verify(
        self, leaf: x509.Certificate, others: list[x509.Certificate], now: datetime
    ) -> None:
        if not self.roots:
            raise ChainInvalidError("no certificate is trusted")
        if leaf in self.roots:  # trusted itself; the verifier would want an issuer
            if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
                raise ChainInvalidError("the certificate is not valid now")
            return
        builder = PolicyBuilder().store(Store(list(self.roots))).time(now)
        builder = builder.max_chain_depth(CHAIN_LIMIT).extension_policies(
            ca_policy=ExtensionPolicy.webpki_defaults_ca(),
            ee_policy=ExtensionPolicy.permit_all(),  # it signs tokens: no host is named in it
        )
        builder.build_client_verifier().verify(leaf, others)


def load(rootcertbundle: str | None, jwks: str | None) -> TrustedKeys:
    """Return the keys of the files that are configured.

    Raises:
        KeysInvalidError: a file can't be read or used, or there is no key in them.
    """
    roots: list[x509.Certificate] = []
    by_name: dict[str, Key] = {}
    if rootcertbundle:
        roots = _certificates(rootcertbundle)
        for certificate in roots:
            key = key_of(certificate)
            by_name[key.thumbprint()] = key
            by_name[libtrust_id(certificate)] = key
    if jwks:
        by_name |= _key_set(jwks)
    if not by_name:
        raise KeysInvalidError(
            "auth.token: no key to verify tokens with; set rootcertbundle or jwks"
        )
    return TrustedKeys(by_name, roots)


def key_of(certificate: x509.Certificate) -> Key:
    """Return the public key of a certificate.

    Raises:
        ValueError: of a kind that signs no tokens.
    """
    public = certificate.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    match public:
        case rsa.RSAPublicKey():
            return _quietly(jwk.RSAKey, pem)
        case ec.EllipticCurvePublicKey():
            return _quietly(jwk.ECKey, pem)
        case ed25519.Ed25519PublicKey():
            return _quietly(jwk.OKPKey, pem)
        case _:
            raise ValueError(f"no key for tokens: {type(public).__name__}")


def libtrust_id(certificate: x509.Certificate) -> str:
    """Return the identifier that libtrust gives a certificate's key: ``ABCD:EFGH:...``."""
    public = certificate.public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[start : start + 4] for start in range(0, len(text), 4))


def _quietly(cls: type[Key], value: bytes | dict[str, object]) -> Key:
    """Return a key; that it is weak is for whoever configured it to know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return cls.import_key(value)  # type: ignore[arg-type]  # checked by the library


def import_jwk(document: Mapping[str, object]) -> Key:
    """Return the key in a JWK.

    Raises:
        ValueError: it is none.
    """
    kinds: Mapping[object, type[Key]] = {
        "RSA": jwk.RSAKey,
        "EC": jwk.ECKey,
        "OKP": jwk.OKPKey,
        "oct": jwk.OctKey,
    }
    cls = kinds.get(document.get("kty"))
    if cls is None:
        raise ValueError("unknown kty")
    try:
        return _quietly(cls, dict(document))
    except (JoseError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error


def _read(path: str, key: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(KEY_FILE_LIMIT + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise KeysInvalidError(f"{key}: can't read {path}: {reason}") from error
    if len(content) > KEY_FILE_LIMIT:
        raise KeysInvalidError(f"{key}: {path}: more than {KEY_FILE_LIMIT} bytes")
    return content


def _certificates(path: str) -> list[x509.Certificate]:
    content = _read(path, "auth.token.rootcertbundle")
    try:
        certificates = x509.load_pem_x509_certificates(content)
        for certificate in certificates:
            key_of(certificate)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeysInvalidError(f"auth.token.rootcertbundle: {path}: {error}") from error
    return certificates


def _key_set(path: str) -> dict[str, Key]:
    content = _read(path, "auth.token.jwks")
    found: dict[str, Key] = {}
    try:
        for document in json.loads(content)["keys"]:
            key = import_jwk(document)
            name = document.get("kid")
            found[name if isinstance(name, str) and name else key.thumbprint()] = key
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise KeysInvalidError(f"auth.token.jwks: {path}: not a set of keys: {error}") from error
    return found
