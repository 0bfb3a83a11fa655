"""Settings of the listeners and of what every answer carries."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, model_validator

from dockyard.config.scalars import (
    Duration,
    Flag,
    Number,
    OptionalText,
    Secret,
    Text,
    VerbatimError,
    to_text,
    to_text_or_none,
)
from dockyard.config.section import Section


CIPHER_SUITES: Final = (
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
)
"""Names of cipher suites that distribution knows. Source: `registry/registry.go` of v3."""
_WORKERS: Final = range(1, 65)
"""Worker processes: 64 is far above what one machine's storage feeds."""
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A field name. Source: RFC 9110, section 5.6.2."""
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}"
)
"""A host's full name in the DNS. Source: RFC 1123, section 2.1."""
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""A field value, which must not break out of its line. Source: RFC 9110, section 5.5."""


def _to_network(value: object) -> object:
    text = to_text(value)
    if text == "":
        return "tcp"
    if isinstance(text, str) and text not in {"tcp", "unix"}:
        raise VerbatimError(f"unknown address type {text}; one of tcp, unix")
    return text


def _prefix(value: str) -> str:
    if not value.startswith("/") and value:
        raise ValueError("must begin and end with a slash, as in /registry/")
    return value.rstrip("/") + "/"


def _location(value: str | None) -> str | None:
    if value is not None and re.fullmatch(r"/[A-Za-z0-9._~/-]*", value) is None:
        raise ValueError("must be the path of a location in the proxy, as in /blobs/")
    return value and value.rstrip("/") + "/"


def _absolute(value: str | None) -> str | None:
    if value is None:
        return None
    if not _is_absolute(value):
        raise ValueError("must be an absolute URL such as https://registry.example.com")
    if "?" in value or "#" in value:
        raise ValueError("must be a URL without query and fragment")
    return value


def _is_absolute(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an address, or a port that is no number
        return False


def _workers(value: int | None) -> int | None:
    if value is not None and value not in _WORKERS:
        raise ValueError("must be from 1 to 64")
    return value


def _minimum_tls(value: object) -> object:
    text = to_text_or_none(value)
    if isinstance(text, str) and text not in {"tls1.2", "tls1.3"}:
        raise VerbatimError(f'unknown minimum TLS level "{text}"; one of tls1.2, tls1.3')
    return text


def _cipher_suite(value: str) -> str:
    if value not in CIPHER_SUITES:
        raise VerbatimError(
            f"unknown TLS cipher suite '{value}' specified for http.tls.cipherSuites"
        )
    return value


def _public_host(value: str) -> str:
    """Return the name of a host that an authority can certify, in lower case."""
    name = value.lower().rstrip(".")
    if not _HOST_NAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
        raise ValueError(
            "must be a host's name, without port and wildcard; write one with letters beyond "
            "a to z in its xn-- form"
        )
    return name


def _https(value: str | None) -> str | None:
    if value is not None and not value.startswith("https://"):
        raise ValueError("must be an https URL")
    return value


def check_field_name(name: str) -> str:
    """Return `name` if a header field may be called so.

    Raises:
        ValueError: it may not.
    """
    if not _TOKEN.fullmatch(name):
        raise ValueError("must be the name of a header field")
    return name


def check_field_value(value: str) -> str:
    """Return `value` if a header field may hold it.

    Raises:
        ValueError: it may not.
    """
    if not _FIELD_VALUE.fullmatch(value):
        raise ValueError("must be a header value: one line of Latin-1 characters")
    return value


FieldName: TypeAlias = Annotated[str, AfterValidator(check_field_name)]
FieldValue: TypeAlias = Annotated[Text, AfterValidator(check_field_value)]
ClientAuthentication: TypeAlias = Annotated[
    Literal[
        "request-client-cert",
        "require-any-client-cert",
        "verify-client-cert-if-given",
        "require-and-verify-client-cert",
    ]
    | None,
    BeforeValidator(to_text_or_none),
]


class LetsEncryptSettings(Section):
    """Certificates issued by an ACME authority."""

    cachefile: OptionalText = None
    email: OptionalText = None
    hosts: tuple[Annotated[Text, AfterValidator(_public_host)], ...] = ()
    directoryurl: Annotated[OptionalText, AfterValidator(_https)] = None


class TLSSettings(Section):
    """TLS on the listener."""

    certificate: OptionalText = None
    key: OptionalText = None
    clientcas: tuple[Text, ...] = ()
    clientauth: ClientAuthentication = None
    minimumtls: Annotated[Literal["tls1.2", "tls1.3"] | None, BeforeValidator(_minimum_tls)] = None
    ciphersuites: tuple[Annotated[Text, AfterValidator(_cipher_suite)], ...] = ()
    letsencrypt: LetsEncryptSettings = LetsEncryptSettings()

    @property
    def enabled(self) -> bool:
        """Whether the listener speaks TLS."""
        return bool(self.certificate or self.letsencrypt.cachefile)

    @model_validator(mode="after")
    def _one_certificate(self) -> Self:
        if self.certificate and self.letsencrypt.cachefile:
            raise VerbatimError("cannot specify both certificate and Let's Encrypt")
        if self.letsencrypt.cachefile and not self.letsencrypt.hosts:
            raise VerbatimError(
                "letsencrypt.hosts is empty: name the hosts to get certificates for"
            )
        if bool(self.certificate) != bool(self.key):
            given, missing = ("certificate", "key") if self.certificate else ("key", "certificate")
            raise VerbatimError(f"there is a {given} and no {missing}; name the file of both")
        if not self.enabled and self.model_dump(exclude_defaults=True):
            raise VerbatimError(
                "without certificate and key this would be plain http; "
                "name their files, or remove the section"
            )
        return self


class PrometheusSettings(Section):
    """Metrics on the debug listener."""

    enabled: Flag = False
    path: Text = "/metrics"


class DebugSettings(Section):
    """A second listener for those who operate the registry."""

    addr: OptionalText = None
    prometheus: PrometheusSettings = PrometheusSettings()


class HTTP2Settings(Section):
    """HTTP/2 over TLS."""

    disabled: Flag = False


class H2CSettings(Section):
    """HTTP/2 without TLS."""

    enabled: Flag = False


class HTTPSettings(Section):
    """Where the registry listens and what its answers carry.

    Attributes:
        addr: ``HOST:PORT``, ``:PORT`` for every interface, or the path of a socket.
        prefix: what precedes ``v2/`` in paths; begins and ends with a slash.
        workers: processes that serve; `None` is one for each core, up to four.
        accelredirect: what a proxy in front has for the directory of the blobs; begins and ends
            with a slash. `None`: blobs are sent by us.
    """

    addr: Text = ":5000"
    net: Annotated[Literal["tcp", "unix"], BeforeValidator(_to_network)] = "tcp"
    prefix: Annotated[Text, AfterValidator(_prefix)] = "/"
    host: Annotated[OptionalText, AfterValidator(_absolute)] = None
    secret: Secret = None
    relativeurls: Flag = False
    draintimeout: Duration = timedelta()
    headers: Mapping[FieldName, tuple[FieldValue, ...]] = {}
    workers: Annotated[Number | None, AfterValidator(_workers)] = None
    accelredirect: Annotated[OptionalText, AfterValidator(_location)] = None
    tls: TLSSettings = TLSSettings()
    debug: DebugSettings = DebugSettings()
    http2: HTTP2Settings = HTTP2Settings()
    h2c: H2CSettings = H2CSettings()
