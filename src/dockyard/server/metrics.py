"""Counters of requests, in memory that all workers share.

Each worker writes a block of its own, so nothing is locked; who is asked adds the blocks up. A
worker's block outlives it and is taken over by the one that replaces it, so counters never go
back. Names and labels are those of distribution (docker/go-metrics); there is no dependency, since
there is nothing in these four metrics that needs one.
"""

import mmap
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from dockyard.http.messages import Scope


HANDLERS: Final = (
    *("base", "catalog", "tags", "manifest", "blob", "blob_upload", "blob_upload_chunk"),
    *("referrers", "other"),
)
METHODS: Final = ("get", "head", "post", "put", "patch", "delete", "other")
CODES: Final = (
    *(200, 201, 202, 204, 206, 301, 304, 307, 308, 400, 401, 403, 404, 405, 409, 412, 413, 416),
    *(429, 499, 500, 503, 507),
)
"""Statuses counted by themselves; others are counted as 0, which is rendered as ``other``."""

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of durations. Source: Prometheus' default buckets, which go-metrics uses."""

SIZES: Final = tuple(1024 * 4**power for power in range(12))
"""Upper bounds of response bodies in bytes: 1 KiB to 4 GiB."""

_TAIL: Final = re.compile(
    r"v2/(?:(?P<base>)|(?P<catalog>_catalog)|.+/(?:(?P<tags>tags/list)|(?P<manifest>manifests/.+)"
    r"|(?P<blob_upload>blobs/uploads/)|(?P<blob_upload_chunk>blobs/uploads/[^/]+)"
    r"|(?P<blob>blobs/[^/]+)|(?P<referrers>referrers/.+)))"
)


def handler_of(path: str, prefix: str = "/") -> str:
    """Return distribution's name of what serves `path`."""
    match = _TAIL.fullmatch(path, len(prefix)) if path.startswith(prefix) else None
    return match.lastgroup or "other" if match else "other"


class Metrics:
    """The counters of a service.

    Made before the workers are forked; each then counts in the block of its number.
    """

    _REQUESTS: Final = len(HANDLERS) * len(METHODS) * (len(CODES) + 1)
    _DURATIONS: Final = len(HANDLERS) * len(METHODS) * (len(SECONDS) + 2)
    _SIZES: Final = len(HANDLERS) * (len(SIZES) + 2)
    _BLOCK: Final = _REQUESTS + _DURATIONS + _SIZES + len(HANDLERS)

    def __init__(self, workers: int, prefix: str = "/") -> None:
        self._prefix = prefix
        self._blocks = [
            memoryview(mmap.mmap(-1, self._BLOCK * 8)).cast("Q") for _ in range(workers)
        ]

    def counter(self, worker: int) -> "Counter":
        """Return what counts for a worker that begins now."""
        block = self._blocks[worker]
        for position in range(self._BLOCK - len(HANDLERS), self._BLOCK):
            block[position] = 0  # what the worker before us had in flight is gone
        return Counter(block, self._prefix)

    def render(self) -> str:
        """Return all metrics in Prometheus' text format."""
        totals = [sum(values) for values in zip(*self._blocks, strict=True)]
        return "".join(f"{line}\n" for line in _lines(totals))

    @property
    def requests(self) -> int:
        """Requests answered so far."""
        return sum(sum(block[: self._REQUESTS]) for block in self._blocks)


class Counter:
    """Counts the requests of one worker."""

    def __init__(self, block: "memoryview[int]", prefix: str) -> None:
        self._block = block
        self._prefix = prefix

    def began(self, scope: Scope) -> None:
        """Count a request as in flight."""
        self._block[_in_flight(self._handler(scope))] += 1

    def completed(self, scope: Scope, status: int, written: int, nanoseconds: int) -> None:
        """Count a request as answered."""
        handler, block = self._handler(scope), self._block
        method = METHODS.index(name) if (name := scope["method"].lower()) in METHODS else -1
        row = handler * len(METHODS) + method % len(METHODS)
        code = CODES.index(status) if status in CODES else len(CODES)
        block[_in_flight(handler)] -= 1
        block[row * (len(CODES) + 1) + code] += 1
        start = Metrics._REQUESTS + row * (len(SECONDS) + 2)  # noqa: SLF001 -- the same module
        block[start + bisect_left(SECONDS, nanoseconds / 1e9)] += 1
        block[start + len(SECONDS) + 1] += nanoseconds
        start = Metrics._REQUESTS + Metrics._DURATIONS  # noqa: SLF001 -- the same module
        start += handler * (len(SIZES) + 2)
        block[start + bisect_left(SIZES, written)] += 1
        block[start + len(SIZES) + 1] += written

    def _handler(self, scope: Scope) -> int:
        return HANDLERS.index(handler_of(scope["path"], self._prefix))


def _in_flight(handler: int) -> int:
    return Metrics._BLOCK - len(HANDLERS) + handler  # noqa: SLF001 -- the same module


def _lines(totals: Sequence[int]) -> Iterator[str]:
    values = iter(totals)
    yield "# HELP registry_http_requests_total Requests answered."
    yield "# TYPE registry_http_requests_total counter"
    for handler in HANDLERS:
        for method in METHODS:
            for code in (*CODES, "other"):
                if count := next(values):
                    labels = f'code="{code}",handler="{handler}",method="{method}"'
                    yield f"registry_http_requests_total{{{labels}}} {count}"
    rows = [(handler, method) for handler in HANDLERS for method in METHODS]
    yield from _histogram(
        "registry_http_request_duration_seconds",
        [f'handler="{handler}",method="{method}"' for handler, method in rows],
        (SECONDS, lambda nanoseconds: repr(nanoseconds / 1e9)),
        values,
    )
    yield from _histogram(
        "registry_http_response_size_bytes",
        [f'handler="{handler}"' for handler in HANDLERS],
        (SIZES, str),
        values,
    )
    yield "# HELP registry_http_in_flight_requests Requests being answered."
    yield "# TYPE registry_http_in_flight_requests gauge"
    for handler in HANDLERS:
        yield f'registry_http_in_flight_requests{{handler="{handler}"}} {next(values)}'


def _histogram(
    name: str,
    rows: Sequence[str],
    scale: tuple[Sequence[float], Callable[[int], str]],
    values: Iterator[int],
) -> Iterator[str]:
    """Yield the lines of a histogram whose rows of counts and sums come next from `values`."""
    bounds, render_sum = scale
    yield f"# HELP {name} Of requests answered."
    yield f"# TYPE {name} histogram"
    for labels in rows:
        counts = list(accumulate(next(values) for _ in range(len(bounds) + 1)))
        total = next(values)
        if not counts[-1]:
            continue
        for bound, count in zip((*bounds, "+Inf"), counts, strict=True):
            yield f'{name}_bucket{{{labels},le="{bound}"}} {count}'
        yield f"{name}_sum{{{labels}}} {render_sum(total)}"
        yield f"{name}_count{{{labels}}} {counts[-1]}"
