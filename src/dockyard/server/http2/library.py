"""The library that knows HTTP/2, as it is used here: bounded, and passed by where it can be."""

from collections.abc import Iterable, Sequence
from typing import Final

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection
from h2.settings import SettingCodes, Settings
from h2.stream import StreamClosedBy
from hpack import Decoder, HeaderTuple
from typing_extensions import override

from dockyard.server.limits import HTTP2Limits


CLOSED_STREAMS: Final = 1024
"""Streams of which it is remembered how they ended, so that a frame that was on its way to one is
no fault of the client: ten times what may be open."""

_CONFIGURATION: Final = H2Configuration(
    client_side=False,
    header_encoding=None,
    # A malformed request is to end its stream, not the connection: so heads are checked by us.
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class Unpacker(Decoder):
    """Unpacks each head once, though we look at some of them before the library does.

    What a head says depends on those before it, and it may be unpacked but once.
    """

    def __init__(self, limits: HTTP2Limits) -> None:
        super().__init__(limits.list_bytes)
        self.max_allowed_table_size = limits.table_bytes
        self._looked_at: Iterable[HeaderTuple] | Exception | None = None

    def look(self, block: bytes) -> Sequence[HeaderTuple] | None:
        """Return the fields of the next head; `None` if it is in error, as the library will find.

        It is that which `decode` is asked for next, if it is asked at all; see `forget`.
        """
        try:
            self._looked_at = fields = list(super().decode(block, raw=True))
        except Exception as error:  # noqa: BLE001 -- raised again where it belongs
            self._looked_at = error
            return None
        return fields

    def forget(self) -> None:
        """Go on: the head that was looked at is not asked for."""
        self._looked_at = None

    @override
    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        found, self._looked_at = self._looked_at, None
        if isinstance(found, Exception):
            raise found
        return super().decode(data, raw) if found is None else found


class Library(H2Connection):
    """The library's side of a connection.

    It remembers less: else it takes 11 MB for each connection that lives long.

    Args:
        limits: bounds of what HTTP/2 adds.
        head_bytes: longest head.

    Attributes:
        unpacker: its decoder.
    """

    MAX_CLOSED_STREAMS = CLOSED_STREAMS

    def __init__(self, limits: HTTP2Limits, head_bytes: int) -> None:
        super().__init__(_CONFIGURATION)
        self.local_settings = make_settings(limits, head_bytes)
        self.max_inbound_frame_size = limits.frame_bytes
        self.decoder = self.unpacker = Unpacker(limits)

    def pass_by(self, number: int) -> None:
        """Note that a stream was opened, and ended by both sides, without the library.

        Raises:
            ProtocolError: none may be opened any more.
        """
        self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        self.highest_inbound_stream_id = number
        self._closed_streams[number] = StreamClosedBy.SEND_END_STREAM


def make_settings(limits: HTTP2Limits, head_bytes: int, *, slack: int = 1) -> Settings:
    """Return our settings, with `slack` times as many streams."""
    return Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams * slack,
            SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
            SettingCodes.MAX_FRAME_SIZE: limits.frame_bytes,
            SettingCodes.MAX_HEADER_LIST_SIZE: head_bytes,
            SettingCodes.HEADER_TABLE_SIZE: limits.table_bytes,
        },
    )
