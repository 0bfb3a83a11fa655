"""Where things are, as seen by the client: bases of URLs and the state of an upload.

The state of an upload travels in the *path* of its ``Location``, since some clients drop the
query: ``<identifier>[.<offset>[.<algorithm>]]``. It needs no signature: the identifier can't be
guessed, the truth about the bytes is in the storage, and the offset can only make a request fail
that would have appended in the wrong place.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


_STATE: Final = re.compile(
    r"(?P<identifier>[0-9a-f-]{36})(?:\.(?P<offset>\d{1,18})(?:\.(?P<algorithm>sha256|sha512))?)?",
    re.ASCII,
)

_HOST: Final = re.compile(r"[A-Za-z0-9._~:\[\]-]{1,260}")
"""What we repeat as a host; anything else in a header is not repeated."""


@dataclass(frozen=True, slots=True)
class UploadState:
    """What a client's URL says of its upload.

    Attributes:
        identifier: names the upload.
        offset: where the client believes it ends, in bytes; `None` if the URL does not say.
        algorithm: what the bytes are hashed with as they arrive.
    """

    identifier: str
    offset: int | None = None
    algorithm: str = "sha256"

    def render(self) -> str:
        """Return the last component of the upload's path."""
        if self.offset is None:
            return self.identifier
        if self.algorithm == "sha256":
            return f"{self.identifier}.{self.offset}"
        return f"{self.identifier}.{self.offset}.{self.algorithm}"


def parse_upload(text: str) -> UploadState | None:
    """Return the state in the last component of an upload's path; `None` if it is not ours."""
    match = _STATE.fullmatch(text)
    if match is None:
        return None
    offset = match["offset"]
    return UploadState(
        match["identifier"],
        None if offset is None else int(offset),
        match["algorithm"] or "sha256",
    )


def base_url(header: Callable[[str], str | None], scheme: str) -> str:
    """Return ``scheme://host`` under which the client reaches us; empty if it gave no host.

    In this order: ``Forwarded`` (RFC 7239), ``X-Forwarded-Proto`` and ``-Host``, the request.
    Of a list the first entry counts, the one nearest to the client.

    Source: distribution v3.1.1, registry/api/v2/urls.go.

    Args:
        header: looks a request header up by its lower-case name.
        scheme: the scheme of the connection.
    """
    host = header("host")
    forwarded = header("forwarded")
    if forwarded:
        pairs = _forwarded(forwarded)
        scheme = pairs.get("proto", scheme)
        host = pairs.get("host", host)
    else:
        scheme = _first(header("x-forwarded-proto")) or scheme
        host = _first(header("x-forwarded-host")) or host
    if not host or _HOST.fullmatch(host) is None or scheme.lower() not in {"http", "https"}:
        return ""
    return f"{scheme.lower()}://{host}"


def _first(text: str | None) -> str:
    return text.split(",", 1)[0].strip() if text else ""


def _forwarded(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(",", 1)[0].split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs if value}
