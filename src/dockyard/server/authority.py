"""A certificate authority for one registry: a few files in a directory, and no more.

For networks without a name that a public authority could certify. Clients are told of the
authority once; what it issues may change.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dockyard.server.files import write_privately
from dockyard.server.tls import reason_of


AUTHORITY_AGE: Final = timedelta(days=3650)
"""How long an authority is valid: to replace it, every client has to be told."""

BACKDATED: Final = timedelta(hours=1)
"""How much earlier than now a certificate begins: clocks of clients may be slow."""

_NAME: Final = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9-]{1,63}")
_SUBJECT_LENGTH: Final = 64
"""Longest common name. Source: RFC 5280, appendix A.1."""


class AuthorityError(Exception):
    """Nothing was issued; the message says why and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class Files:
    """What lies in the directory.

    Attributes:
        authority: the authority's certificate, for the clients.
        authority_key: its key, for issuing again.
        certificate: the server's certificate.
        key: its key.
    """

    authority: Path
    authority_key: Path
    certificate: Path
    key: Path

    @classmethod
    def of(cls, directory: Path) -> "Files":
        """Return the names in `directory`."""
        names = ("ca.crt", "ca.key", "server.crt", "server.key")
        return cls(*(directory / name for name in names))


def issue(directory: Path, hosts: Sequence[str], age: timedelta, now: datetime) -> Files:
    """Issue a certificate for `hosts`, names or addresses, into `directory`; return its files.

    The authority there issues it; if there is none, one is made. An older certificate of it is
    replaced, key first, each file at once.

    Raises:
        AuthorityError: a host can't be certified, or the directory has other files in the place.
    """
    names = [_general_name(host) for host in hosts]
    files = Files.of(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        authority, signing = _open_authority(files, now)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(hosts[0], names, key, (authority, signing), (now, age))
        write_privately(files.key, _encoded(key), 0o600)
        write_privately(files.certificate, certificate.public_bytes(Encoding.PEM), 0o644)
    except OSError as error:
        raise AuthorityError(f"{error.filename or directory}: {reason_of(error)}") from error
    return files


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    if not _NAME.fullmatch(host.lower()) or len(host) > 253:  # noqa: PLR2004 -- RFC 1035, 2.3.4
        raise AuthorityError(
            f"{host!r} is no host: give a name or an address, without scheme and port"
        )
    return x509.DNSName(host.lower())


def _open_authority(
    files: Files, now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    there = [path for path in (files.authority, files.authority_key) if path.exists()]
    if not there:
        for path in (files.certificate, files.key):
            if path.exists():
                raise AuthorityError(
                    f"{path} is there already, and not from here; choose another directory"
                )
        return _make_authority(files, now)
    try:
        certificate = x509.load_pem_x509_certificate(files.authority.read_bytes())
        key = load_pem_private_key(files.authority_key.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise AuthorityError(f"the authority in {files.authority.parent} can't be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise AuthorityError(
            f"{files.authority_key} is not the key of {files.authority}; choose another directory"
        )
    return certificate, key


def _make_authority(
    files: Files, now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"Dockyard authority of {now:%Y-%m-%d}")
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + AUTHORITY_AGE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_privately(files.authority_key, _encoded(key), 0o600)
    write_privately(files.authority, certificate.public_bytes(Encoding.PEM), 0o644)
    return certificate, key


def _sign(
    subject: str,
    names: Sequence[x509.GeneralName],
    key: ec.EllipticCurvePrivateKey,
    by: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
    when: tuple[datetime, timedelta],
) -> x509.Certificate:
    authority, signing = by
    now, age = when
    public = key.public_key()
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    serial = x509.random_serial_number()
    return (
        x509.CertificateBuilder(authority.subject, _named(subject), public, serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now + age, authority.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer, critical=False)
        .sign(signing, hashes.SHA256())
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_SUBJECT_LENGTH])])


def _encoded(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
