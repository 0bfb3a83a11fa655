"""The three byte-range dialects of the distribution protocol.

* Upload progress, ``Range: 0-99``: no unit, inclusive end. Source: OCI Distribution Spec,
  spec.md#pushing-a-blob-in-chunks.
* Upload chunk, ``Content-Range: 0-99``: the same grammar, from the client; RFC 9110's form
  ``bytes 0-99/*`` is understood as well.
* Download, ``Range: bytes=0-99``: RFC 9110, section 14.

Inside the registry a range is half open and counted in bytes, like `range` and slices;
inclusive ends exist in this module only.
"""

import re
from typing import Final

from dockyard.errors import RangeInvalidError


_CHUNK: Final = re.compile(
    r"(?:bytes[ =])?(?P<first>\d{1,18})-(?P<last>\d{1,18})(?:/(?:\d{1,18}|\*))?", re.ASCII
)
_DOWNLOAD: Final = re.compile(r"bytes=[ \t]*(?P<first>\d{0,18})-(?P<last>\d{0,18})[ \t]*", re.ASCII)


def parse_chunk(text: str) -> range:
    """Return the bytes a chunk claims to hold, from its ``Content-Range``.

    Raises:
        RangeInvalidError: `text` is not ``first-last``, or `last` is before `first`.
    """
    match = _CHUNK.fullmatch(text)
    if match is None or int(match["last"]) < int(match["first"]):
        raise RangeInvalidError(text)
    return range(int(match["first"]), int(match["last"]) + 1)


def render_progress(received: int) -> str:
    """Return the ``Range`` value that says `received` bytes have arrived.

    The grammar cannot say "none": with an inclusive end, zero bytes has no honest form.
    We answer ``0-0``, as distribution does and clients expect; a client that needs to tell
    zero bytes from one must look at its own count.
    """
    return f"0-{max(received - 1, 0)}"


def parse_download(text: str | None, size: int) -> range | None:
    """Return the bytes a ``Range`` asks for of content of `size` bytes.

    `None` means the whole: there is no range, or one that we needn't honour: another unit, several
    ranges at once, bad grammar (RFC 9110, section 14.2: ignored, not refused). An empty range means
    416: none of the bytes asked for exist, or the last is before the first, which distribution
    refuses too.
    """
    match = _DOWNLOAD.fullmatch(text) if text is not None else None
    if match is None or not (match["first"] or match["last"]):
        return None
    if not match["first"]:
        length = min(int(match["last"]), size)
        return range(size - length, size)
    first = int(match["first"])
    if not match["last"]:
        return range(first, size) if first < size else range(0)
    last = int(match["last"])
    return range(first, min(last + 1, size)) if first < size else range(0)
