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
