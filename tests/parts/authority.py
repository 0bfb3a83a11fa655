"""A certificate authority of the test's own, and the certificates it issues."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and of its key."""

    certificate: Path
    key: Path

    def replace(self, other: Self) -> None:
        """Become `other`, as a program that renews certificates does it."""
        for mine, its in ((self.key, other.key), (self.certificate, other.certificate)):
            fresh = mine.with_suffix(".new")
            fresh.write_bytes(its.read_bytes())
            fresh.replace(mine)


class Authority:
    """An authority whose files lie in a folder.

    Attributes:
        certificate: its certificate, which clients are to trust.
    """

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.certificate = folder / "ca.crt"
        signed = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(signed.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        hosts: Sequence[str] = ("localhost", "127.0.0.1"),
        *,
        until: datetime | None = None,
    ) -> Pair:
        """Return a new certificate for `hosts`, with `name` as its subject's common name."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_named(name), self._name, key.public_key(), until)
        alternatives = x509.SubjectAlternativeName([_host(host) for host in hosts])
        signed = builder.add_extension(alternatives, critical=False).sign(
            self._key, hashes.SHA256()
        )
        folder = self._folder / f"{name}-{signed.serial_number:x}"
        folder.mkdir()
        pair = Pair(folder / "server.crt", folder / "server.key")
        pair.certificate.write_bytes(signed.public_bytes(Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair


def _named(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests, Inc."),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    until: datetime | None = None,
) -> x509.CertificateBuilder:
    end = until or datetime.now(UTC) + timedelta(days=1)
    return x509.CertificateBuilder(
        issuer, subject, key, x509.random_serial_number(), end - timedelta(days=2), end
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
