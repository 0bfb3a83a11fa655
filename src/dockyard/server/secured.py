"""TLS between a socket and the connection that speaks HTTP.

The records are OpenSSL's, by Python's `ssl`, in memory: so the first bytes can be looked at before
a handshake begins, a handshake is under the same bounds as a head (the deadline, the limit of
connections), and an answer can end our side while the client's rest is still taken, as without TLS.
"""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from cryptography import x509
from typing_extensions import override

from dockyard.protocol.client_hello import HANDSHAKE, HelloInvalidError, parse_client_hello
from dockyard.server.certificates import Certificates, NoCertificateError
from dockyard.server.clear import HTTP2, Successor
from dockyard.server.connection import Connection, Phase
from dockyard.server.head import RefusedError
from dockyard.server.sharing import WorkerState
from dockyard.server.tls import HTTP_1_1, HTTP_2, SUITE_NUMBERS, reason_of
from dockyard.telemetry import logger


if TYPE_CHECKING:
    from uvicorn.config import Config


RECORD_BYTES: Final = 16 << 10
"""Bytes of one record, at most. Source: RFC 8446, section 5.1."""

WRITE_BYTES: Final = 64 << 10
"""Bytes encrypted at once. OpenSSL keeps a buffer of this size for each connection: a quarter of
what a blob is read in, and larger ones are not faster."""

_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

_ALERT: Final = b"\x15\x03\x03\x00\x02\x02"
"""A fatal alert, but for its last byte. Source: RFC 8446, section 6."""

_UNRECOGNIZED_NAME: Final = b"\x70"
_DECODE_ERROR: Final = b"\x32"


class SecureConnection(Connection):
    """A connection whose requests came through TLS, and say so.

    Attributes:
        facts: the ASGI extension ``tls`` of each request.
    """

    facts: Mapping[str, object]

    @override
    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cast("dict[str, Any]", self.scope)["extensions"] = {"tls": self.facts}


class _PlainConnection(Connection):
    """A connection of someone who speaks plain HTTP where TLS is spoken. Source: Go's net/http."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._phase is not Phase.LINGER:
            reason = "Client sent an HTTP request to an HTTPS server."
            self._refuse(RefusedError(HTTPStatus.BAD_REQUEST, reason))


class SecureTransport(asyncio.Transport):
    """What the HTTP side of a connection writes to."""

    def __init__(self, layer: "TLSLayer", tls: ssl.SSLObject) -> None:
        super().__init__({"sslcontext": tls.context, "ssl_object": tls})
        self._layer = layer
        self._raw = layer.transport

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        found = super().get_extra_info(name)
        return self._raw.get_extra_info(name, default) if found is None else found

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._layer.encrypt((data,))

    @override
    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._layer.encrypt(list_of_data)

    @override
    def close(self) -> None:
        self._layer.close()

    @override
    def write_eof(self) -> None:
        self._layer.say_goodbye()
        self._raw.write_eof()

    @override
    def can_write_eof(self) -> bool:
        return self._raw.can_write_eof()

    @override
    def abort(self) -> None:
        self._raw.abort()

    @override
    def is_closing(self) -> bool:
        return self._raw.is_closing()

    @override
    def pause_reading(self) -> None:
        self._raw.pause_reading()

    @override
    def resume_reading(self) -> None:
        self._raw.resume_reading()

    @override
    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()


class TLSLayer(asyncio.Protocol):
    """The TLS of one connection, from its first byte.

    Until the handshake is done it stands among the worker's connections itself; then the
    connection that speaks HTTP does.

    Attributes:
        transport: the socket's.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        config: "Config",
        state: WorkerState,
        certificates: Certificates,
        http2: HTTP2 | None = None,
    ) -> None:
        self._config: Final = config
        self._state: Final = state
        self._certificates: Final = certificates
        self._http2: Final = http2
        self._loop: Final = asyncio.get_running_loop()
        self._incoming: Final = ssl.MemoryBIO()
        self._outgoing: Final = ssl.MemoryBIO()
        self._deadline = 0.0
        self._first = b""  # what came before the handshake could begin
        self._tls: ssl.SSLObject | None = None
        self._connection: SecureConnection | Successor | None = None
        self._ended = False  # the client will send nothing more
        self._said_goodbye = False

    # What the socket's transport calls.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        limits, connections = self._state.limits, self._state.connections
        self._deadline = self._loop.time() + limits.head_seconds
        connections.add(cast("Any", self))
        if len(connections) > 2 * limits.connections:
            self.transport.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(cast("Any", self))
        if self._connection is not None:
            self._connection.connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.pause_writing()

    @override
    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.resume_writing()

    @override
    def eof_received(self) -> bool:
        if self._connection is None:
            return False
        return self._end()

    @override
    def data_received(self, data: bytes) -> None:
        if self._connection is not None:
            self._incoming.write(data)
            self._decrypt(self._connection)
            return
        if self._tls is None:
            self._first += data
            self._begin()
        else:
            self._incoming.write(data)
        if self._tls is not None:
            self._shake_hands(self._tls)

    # What the worker calls until the handshake is done.

    def sweep(self, now: float) -> None:
        """Give up a handshake that is overdue at `now`, in seconds of the loop's clock."""
        if now >= self._deadline:
            self._failed("it took too long")
            self.transport.abort()

    def shutdown(self) -> None:
        """Give up: nothing was asked yet, and the worker is about to end."""
        self.transport.abort()

    # The handshake.

    def _begin(self) -> None:
        """Begin the handshake, if enough came to know with which certificate."""
        hello = None
        if self._first[0] != HANDSHAKE:
            self._reject_plain()
            return
        try:
            if self._certificates.reads_hello:
                hello = parse_client_hello(self._first)
                if hello is None:
                    return
            context = self._certificates.context_for(hello)
        except (HelloInvalidError, NoCertificateError) as error:
            unknown = isinstance(error, NoCertificateError)
            self.transport.write(_ALERT + (_UNRECOGNIZED_NAME if unknown else _DECODE_ERROR))
            self._failed(str(error))
            self.transport.close()
            return
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(self._first)
        self._first = b""

    def _reject_plain(self) -> None:
        """Tell someone who speaks plain HTTP so; who speaks something else is told nothing."""
        if not self._first[:1].isalpha():
            self._failed("the first bytes are none of TLS")
            self.transport.abort()
            return
        self._state.connections.discard(cast("Any", self))
        connection = _PlainConnection(self._config, self._state, {})
        self.transport.set_protocol(connection)
        connection.connection_made(self.transport)

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self._failed(reason_of(error))
            self.transport.close()
        else:
            self._flush()
            self._establish(tls)

    def _establish(self, tls: ssl.SSLObject) -> None:
        """Let HTTP begin, unless the client wanted only to see the certificate of a challenge."""
        agreed = tls.selected_alpn_protocol()
        if agreed not in {None, HTTP_1_1, HTTP_2}:
            self.close()
            return
        self._state.connections.discard(cast("Any", self))
        facts = facts_of(tls)
        connection: SecureConnection | Successor
        if agreed == HTTP_2 and self._http2 is not None:
            connection = self._http2(self._config, self._state, facts)
        else:
            connection = SecureConnection(self._config, self._state, {})
            connection.facts = facts
        self._connection = connection
        connection.connection_made(SecureTransport(self, tls))
        self._decrypt(connection)

    def _failed(self, reason: str) -> None:
        address = self.transport.get_extra_info("peername")
        host = "{}:{}".format(*address) if isinstance(address, tuple) else ""
        logger().info("TLS handshake failed", **{"http.request.remoteaddr": host}, reason=reason)

    # What is said once it is done.

    def _decrypt(self, connection: SecureConnection | Successor) -> None:
        assert self._tls is not None
        pieces: list[bytes] = []
        try:
            while piece := self._tls.read(RECORD_BYTES):
                pieces.append(piece)
            ended = True
        except ssl.SSLWantReadError:
            ended = False
        except ssl.SSLError:
            self._flush()
            self.transport.abort()
            return
        if self._outgoing.pending:
            self._flush()  # an answer of TLS itself, such as to new keys
        if pieces:
            connection.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended and not self._end():
            self.close()

    def _end(self) -> bool:
        """Note that the client says no more; return whether our side stays open."""
        if self._ended or self._connection is None:
            return self._ended
        self._ended = True
        return self._connection.eof_received()

    def encrypt(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send `parts` to the client."""
        assert self._tls is not None
        if self._said_goodbye:
            return
        records: list[bytes] = []
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), WRITE_BYTES):
                self._tls.write(view[start : start + WRITE_BYTES])
                records.append(self._outgoing.read())
        if len(records) == 1:
            self.transport.write(records[0])
        elif records:
            self.transport.writelines(records)

    def say_goodbye(self) -> None:
        """Tell the client that nothing more will be sent."""
        if self._said_goodbye or self._tls is None:
            return
        self._said_goodbye = True
        with suppress(ssl.SSLError):  # that the client has not said so too, which it need not
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        """End the connection once all is sent."""
        self.say_goodbye()
        self.transport.close()

    def _flush(self) -> None:
        if self._outgoing.pending and not self.transport.is_closing():
            self.transport.write(self._outgoing.read())


def facts_of(tls: ssl.SSLObject) -> Mapping[str, object]:
    """Return the ASGI extension ``tls`` for a connection.

    Before CPython 3.13 the chain of a client's certificate has only the certificate itself.

    Source: ASGI TLS extension, version 0.2.
    """
    encoded = tls.getpeercert(binary_form=True)
    chain = [encoded] if encoded else []
    if encoded and hasattr(tls, "get_verified_chain"):
        chain = tls.get_verified_chain()
    suite = tls.cipher()
    return {
        "server_cert": None,
        "client_cert_chain": tuple(map(ssl.DER_cert_to_PEM_cert, chain)),
        "client_cert_name": _name(encoded) if encoded else None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(tls.version() or ""),
        "cipher_suite": SUITE_NUMBERS.get(suite[0]) if suite else None,
    }


def _name(encoded: bytes) -> str | None:
    """Return the subject of a certificate as RFC 4514 writes it; `None` if it can't be read.

    OpenSSL has verified it. `cryptography` is stricter about encodings, so it may still refuse.
    """
    try:
        return x509.load_der_x509_certificate(encoded).subject.rfc4514_string()
    except (ValueError, x509.InvalidVersion):
        return None
