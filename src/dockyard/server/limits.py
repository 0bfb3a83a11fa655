"""What one connection may cost."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The bounds of every buffer and wait of a connection. Times are seconds, sizes bytes.

    Attributes:
        target_bytes: longest request line; longer is 414. The longest honest one, an upload's
            closing PUT with its state and several tags, is under 3 KiB.
        head_bytes: longest request head, request line included; longer is 431. Bearer tokens
            with many scopes reach 10 KiB; nginx takes 32 KiB by default, node 16 KiB.
        head_fields: most header fields; more are 431. Apache takes 100.
        head_seconds: the whole head must be here this long after the connection was made or, on a
            connection used before, after its first byte. It is one packet for honest
            clients; Apache allows 20, nginx 60.
        idle_seconds: how long a connection may wait for its next request. Go's client gives up
            idle connections after 90 and load balancers after 60: they should always be first,
            since a request that meets a closing server has to be repeated.
        body_window_seconds: a body is judged over windows of this length.
        body_window_bytes: a body must bring this much in each window (1 KiB/s on average), time
            in which we did not read not counted. Silence is so cut off after one to two windows.
        body_buffer_bytes: most bytes of a body held for the application before we stop reading.
            One read of the event loop (256 000) may come on top.
        chunk_line_bytes: longest line with a chunk's size and extensions.
        trailer_bytes: most bytes of trailer fields, which are checked and dropped.
        linger_seconds: after an answer that came before the end of the body, how long the rest is
            taken and dropped so that the client can read the answer (a reset would destroy it).
        linger_bytes: most bytes taken and dropped so. At disk speed on loopback both bounds
            are alike; a client that goes on regardless is cut off.
        stall_seconds: a response of which the client takes not one byte for this long is given
            up. A pull that is paused for five minutes is legal and seen in practice (a busy disk);
            clients whose machine is gone are found by TCP keep-alive within three.
        connections: most connections of the service; one more is answered 503 and closed. As
            many again may be on their way out so; beyond that connections are closed unanswered.
        overload_seconds: how long one that was answered so may take to read it.
        sweep_seconds: how often the deadlines are looked at; they are met this exactly.
    """

    target_bytes: int = 8 << 10
    head_bytes: int = 32 << 10
    head_fields: int = 100
    head_seconds: float = 10.0
    idle_seconds: float = 120.0
    body_window_seconds: float = 60.0
    body_window_bytes: int = 60 << 10
    body_buffer_bytes: int = 256 << 10
    chunk_line_bytes: int = 256
    trailer_bytes: int = 8 << 10
    linger_seconds: float = 30.0
    linger_bytes: int = 64 << 20
    stall_seconds: float = 900.0
    connections: int = 10_000
    overload_seconds: float = 1.0
    sweep_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTP2Limits:
    """What one connection may cost besides where it speaks HTTP/2; see `ConnectionLimits`.

    Attributes:
        streams: most requests worked on at once, those included that a client has given up while
            their work goes on; more are refused so that the client repeats them later. Go's
            server takes 250, nginx 128; clients of registries have under ten.
        stream_window_bytes: most bytes of a body held for the application before the client has
            to wait. It has to fill the way to the client: this is 100 Mbit/s over 40 ms.
        connection_window_bytes: the same for all bodies of a connection together.
        frame_bytes: longest frame. It is the least that may be announced, and a frame is held
            until it is whole.
        block_bytes: longest head as it is sent, compressed; longer ends the connection.
        continuations: most frames a head is continued in; more end the connection (CONTINUATION
            flood). The longest head fills four of the least size.
        list_bytes: longest head once unpacked, 32 bytes added for each field; longer ends the
            connection (HPACK bomb). Between `ConnectionLimits.head_bytes` and this it is 431.
        table_bytes: most bytes of header fields remembered in each direction to pack the next
            head, whatever the client allows. Source: RFC 9113, the default.
        idle_frames: frames that ask for nothing (SETTINGS, PING, PRIORITY, small DATA frames,
            RST_STREAM of what is over, unknown ones) that a client may send at once; more end
            the connection.
        idle_frames_per_second: how fast this allowance grows again.
        small_bytes: a DATA frame shorter than this counts in part, an empty one as a whole. Go's
            compressors write 240 bytes at a time.
        update_bytes: a client may send a WINDOW_UPDATE for each so many bytes of responses, and
            `idle_frames` more. Go sends two for each 4 KiB.
        resets: requests that a client may give up, or send malformed, at once; more end the
            connection (rapid reset, CVE-2023-44487). Pulls are given up with all their layers.
        resets_per_second: how fast this allowance grows again.
        notice_seconds: on draining, from the notice until requests are taken no more: those on
            their way when it was written have arrived by then. Go allows 1 s.
    """

    streams: int = 100
    stream_window_bytes: int = 512 << 10
    connection_window_bytes: int = 2 << 20
    frame_bytes: int = 16 << 10
    block_bytes: int = 64 << 10
    continuations: int = 8
    list_bytes: int = 128 << 10
    table_bytes: int = 4 << 10
    idle_frames: int = 1000
    idle_frames_per_second: int = 50
    small_bytes: int = 128
    update_bytes: int = 1 << 10
    resets: int = 200
    resets_per_second: int = 20
    notice_seconds: float = 0.5
