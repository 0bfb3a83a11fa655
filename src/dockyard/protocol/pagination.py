"""Pages of names: ``n``, ``last`` and the ``Link`` to the next.

Source: OCI Distribution Spec, spec.md#listing-tags; distribution v3.1.1, handlers/catalog.go.
"""

from urllib.parse import quote

from dockyard.errors import PageSizeInvalidError


def parse_size(text: str | None) -> int | None:
    """Return the page size in the query's ``n``, or `None` if there is none.

    Raises:
        PageSizeInvalidError: not a whole number from 0.
    """
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):  # noqa: PLR2004 -- 64 bits
        raise PageSizeInvalidError(text)
    return int(text)


def render_next(path: str, parameters: list[tuple[str, str]]) -> str:
    """Return the ``Link`` that leads to the next page."""
    query = "&".join(
        f"{name}={quote(value, safe='', errors='surrogateescape')}" for name, value in parameters
    )
    return f'<{path}?{query}>; rel="next"'
