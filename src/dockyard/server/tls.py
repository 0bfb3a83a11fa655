"""From the settings under ``http.tls`` to contexts for handshakes. Nothing here waits on a client.

A context is made anew for each certificate, and never changed: whoever has one may go on using it.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from dockyard.config.http import TLSSettings


if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


class TLSError(Exception):
    """TLS can't be set up so; the message names the key, the value and a remedy, in one line."""


class Suite(NamedTuple):
    """A cipher suite: its name in OpenSSL, and its number on the wire."""

    name: str
    number: int


SUITES: Final[Mapping[str, Suite]] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": Suite("ECDHE-ECDSA-AES128-GCM-SHA256", 0xC02B),
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": Suite("ECDHE-RSA-AES128-GCM-SHA256", 0xC02F),
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": Suite("ECDHE-ECDSA-AES256-GCM-SHA384", 0xC02C),
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": Suite("ECDHE-RSA-AES256-GCM-SHA384", 0xC030),
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": Suite("ECDHE-ECDSA-CHACHA20-POLY1305", 0xCCA9),
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": Suite("ECDHE-RSA-CHACHA20-POLY1305", 0xCCA8),
    "TLS_AES_128_GCM_SHA256": Suite("TLS_AES_128_GCM_SHA256", 0x1301),
    "TLS_AES_256_GCM_SHA384": Suite("TLS_AES_256_GCM_SHA384", 0x1302),
    "TLS_CHACHA20_POLY1305_SHA256": Suite("TLS_CHACHA20_POLY1305_SHA256", 0x1303),
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": Suite("DES-CBC3-SHA", 0x000A),
    "TLS_RSA_WITH_AES_128_CBC_SHA": Suite("AES128-SHA", 0x002F),
    "TLS_RSA_WITH_AES_256_CBC_SHA": Suite("AES256-SHA", 0x0035),
    "TLS_RSA_WITH_AES_128_GCM_SHA256": Suite("AES128-GCM-SHA256", 0x009C),
    "TLS_RSA_WITH_AES_256_GCM_SHA384": Suite("AES256-GCM-SHA384", 0x009D),
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": Suite("ECDHE-ECDSA-AES128-SHA", 0xC009),
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": Suite("ECDHE-ECDSA-AES256-SHA", 0xC00A),
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": Suite("ECDHE-RSA-DES-CBC3-SHA", 0xC012),
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": Suite("ECDHE-RSA-AES128-SHA", 0xC013),
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": Suite("ECDHE-RSA-AES256-SHA", 0xC014),
}
"""What the names of the configuration, which are Go's, mean here. The first six are the defaults up
to TLS 1.2: forward secret, and encrypting and authenticating in one. Source: IANA, TLS parameters.
"""

SUITE_NUMBERS: Final = {suite.name: suite.number for suite in SUITES.values()}

HTTP_1_1: Final = "http/1.1"
HTTP_2: Final = "h2"
"""What is agreed on within a handshake. Source: IANA, TLS ALPN protocol IDs."""

_DEFAULTS: Final = tuple(SUITES)[:6]
_TLS_1_3: Final = frozenset(name for name in SUITES if "_WITH_" not in name)

_PRIVATE_KEY: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL
)

_WITHOUT_VERIFICATION: Final = frozenset({"request-client-cert", "require-any-client-cert"})


@dataclass(frozen=True, slots=True)
class TLSPolicy:
    """What the settings say about every handshake, whatever the certificate.

    Attributes:
        minimum: the oldest version of TLS.
        suites: suites up to TLS 1.2, as OpenSSL wants them; empty if there are none.
        client_mode: whether clients may or must show a certificate.
        client_authorities: files of the authorities that may have issued it.
        protocols: what is offered inside, the best first.
        warnings: what is not as it was asked for; for the log.
    """

    minimum: ssl.TLSVersion
    suites: str
    client_mode: ssl.VerifyMode
    client_authorities: tuple[str, ...]
    protocols: tuple[str, ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, settings: TLSSettings, *, http2: bool = False) -> Self:
        """Return what `settings` ask for, with or without HTTP/2.

        Raises:
            TLSError: no handshake could succeed so.
        """
        minimum = (
            ssl.TLSVersion.TLSv1_3 if settings.minimumtls == "tls1.3" else ssl.TLSVersion.TLSv1_2
        )
        suites, warnings = _suites(settings.ciphersuites or _DEFAULTS)
        if minimum is ssl.TLSVersion.TLSv1_3 and settings.ciphersuites:
            warnings = ["http.tls.ciphersuites ignored: those of TLS 1.3 can't be chosen"]
        elif not suites:
            minimum = ssl.TLSVersion.TLSv1_3
        mode = ssl.CERT_NONE
        if settings.clientauth in _WITHOUT_VERIFICATION:
            raise TLSError(
                f"http.tls.clientauth: {settings.clientauth} is not available: "
                "a certificate that is shown is always verified"
            )
        if settings.clientauth == "verify-client-cert-if-given":
            mode = ssl.CERT_OPTIONAL
        elif settings.clientauth or settings.clientcas:
            mode = ssl.CERT_REQUIRED
        if mode is not ssl.CERT_NONE and not settings.clientcas:
            warnings.append(
                "http.tls.clientauth without http.tls.clientcas: "
                "certificates of every authority that this machine trusts are taken"
            )
        # Clients refuse HTTP/2 by other suites. Source: RFC 9113, section 9.2.2.
        http2 = http2 and set(settings.ciphersuites) <= {*_DEFAULTS, *_TLS_1_3}
        protocols = (HTTP_2, HTTP_1_1) if http2 else (HTTP_1_1,)
        return cls(minimum, suites, mode, settings.clientcas, protocols, tuple(warnings))

    def context(self, certificate: Path, key: Path) -> ssl.SSLContext:
        """Return a context that presents the chain in `certificate`, whose key is in `key`.

        Raises:
            TLSError: a file can't be read, is not what it should be, or they don't match.
        """
        check_pair(certificate, key)
        context = self.bare_context()
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:
            raise TLSError(
                f"http.tls.certificate: {certificate} can't be used: {reason_of(error)}"
            ) from error
        self._set_authorities(context)
        return context

    def bare_context(self) -> ssl.SSLContext:
        """Return a context without certificates, ours and the authorities'."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self.minimum
        context.options |= (
            ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        )
        if self.suites:
            context.set_ciphers(self.suites)
        context.set_alpn_protocols(self.protocols)
        return context

    def _set_authorities(self, context: ssl.SSLContext) -> None:
        context.verify_mode = self.client_mode
        # As Go: every certificate among the authorities is trusted, not only those of a root.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        for number, path in enumerate(self.client_authorities):
            where = f"http.tls.clientcas[{number}]"
            _certificates_in(Path(path), where)
            try:
                context.load_verify_locations(path)
            except (OSError, ValueError) as error:
                raise TLSError(f"{where}: {path} can't be used: {reason_of(error)}") from error
        if self.client_mode is not ssl.CERT_NONE and not self.client_authorities:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)


def _suites(names: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return what OpenSSL is to be told for suites up to TLS 1.2, and what it does not have."""
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    known: list[str] = []
    missing: list[str] = []
    for name in names:
        if name in _TLS_1_3:
            continue
        try:
            probe.set_ciphers(SUITES[name].name)
        except ssl.SSLError:
            missing.append(name)
        else:
            known.append(SUITES[name].name)
    if missing and not known:
        raise TLSError(
            f"http.tls.ciphersuites: this machine's OpenSSL has none of {', '.join(missing)}; "
            "add others, or remove the key"
        )
    warnings = [
        f"http.tls.ciphersuites: {name} left out: this machine's OpenSSL does not have it"
        for name in missing
    ]
    return ":".join(known), warnings


def check_pair(certificate: Path, key: Path) -> "x509.Certificate":
    """Return the server's certificate, which comes first in `certificate`, if `key` is its key.

    Raises:
        TLSError: a file can't be read, is not what it should be, or they don't match.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 -- only TLS needs it

    where = "http.tls.certificate"
    leaf = _certificates_in(certificate, where)[0]
    try:
        public = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TLSError(f"{where}: the key of {certificate} is of no kind known here") from error
    if _key_in(key).public_key() != public:
        raise TLSError(
            f"http.tls.key: the key in {key} is not that of the certificate in {certificate}; "
            "the server's certificate must come first there"
        )
    return leaf


def _certificates_in(path: Path, where: str) -> "list[x509.Certificate]":
    from cryptography import x509  # noqa: PLC0415 -- only TLS needs it

    try:
        return x509.load_pem_x509_certificates(_read(path, where))
    except (ValueError, x509.InvalidVersion) as error:
        raise TLSError(f"{where}: there is no certificate in PEM form in {path}") from error


def _key_in(path: Path) -> "PrivateKeyTypes":
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 -- only TLS needs it
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 -- likewise
        load_pem_private_key,
    )

    where = "http.tls.key"
    found = _PRIVATE_KEY.search(_read(path, where))
    if found is None:
        raise TLSError(f"{where}: there is no private key in PEM form in {path}")
    try:
        return load_pem_private_key(found[0], None)
    except TypeError as error:
        raise TLSError(
            f"{where}: the key in {path} is encrypted, and nobody is there to ask for its "
            f"password; decrypt it with openssl pkey -in {path}"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TLSError(f"{where}: the private key in {path} can't be read") from error


def _read(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TLSError(f"{where}: can't read {path}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Return in a few words what `error` says, without the place in OpenSSL it came from."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)


def is_valid(certificate: "x509.Certificate", now: datetime) -> bool:
    """Return whether `certificate` has begun and not ended."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
