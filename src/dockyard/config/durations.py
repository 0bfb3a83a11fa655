"""Durations in the notation of Go, which docker-distribution's configuration uses."""

import re
from datetime import timedelta
from typing import Final


_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, the micro sign
    "\u03bcs": 1_000,  # the Greek letter, which Go takes as well
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_RENDERED: Final = {
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "µs": timedelta(microseconds=1),
}
_PART: Final = re.compile(r"(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?(?P<unit>[^0-9.]+)")
_LONGEST_TEXT: Final = 100
"""Characters a duration may have: far above any sensible one, and a bound to the arithmetic."""
_MOST_NANOSECONDS: Final = (1 << 63) - 1
"""What Go's `time.Duration` holds: about 292 years."""


class DurationInvalidError(ValueError):
    """A text or number is not a duration.

    Attributes:
        text: the value as given.
    """

    def __init__(self, text: str) -> None:
        super().__init__("must be a duration such as 90s, 1h30m or 100ms")
        self.text = text


def parse(text: str) -> timedelta:
    """Return the duration written in `text`, such as ``1h30m``, ``1.5s``, ``-2m`` or ``0``.

    Less than a microsecond, which a `timedelta` can't hold, is rounded away from zero:
    a duration that is not zero stays so.

    Raises:
        DurationInvalidError: `text` is not in Go's notation, lacks a unit, or is over 292 years.

    Source: `time.ParseDuration` of Go.
    """
    if len(text) > _LONGEST_TEXT:
        raise DurationInvalidError(text)
    sign = -1 if text.startswith("-") else 1
    unsigned = text[1:] if text[:1] in {"-", "+"} else text
    if unsigned == "0":
        return timedelta()
    total, position = 0, 0
    while position < len(unsigned) or not unsigned:
        part = _PART.match(unsigned, position)
        if part is None:
            raise DurationInvalidError(text)
        total += _part(part, text)
        position = part.end()
    if total > _MOST_NANOSECONDS:
        raise DurationInvalidError(text)
    return of_nanoseconds(sign * total)


def _part(part: re.Match[str], text: str) -> int:
    """Return the nanoseconds of one number with its unit."""
    whole, fraction, unit = part["whole"], part["fraction"] or "", _NANOSECONDS.get(part["unit"])
    if unit is None or not (whole or fraction):
        raise DurationInvalidError(text)
    digits = len(fraction)
    scale: int = 10**digits
    return int(whole or "0") * unit + int(fraction or "0") * unit // scale


def of_nanoseconds(count: int) -> timedelta:
    """Return the duration of `count` nanoseconds, rounded away from zero to microseconds.

    Raises:
        DurationInvalidError: the duration is over 292 years.
    """
    if abs(count) > _MOST_NANOSECONDS:
        raise DurationInvalidError(str(count))
    microseconds = -(-abs(count) // 1_000)
    return timedelta(microseconds=microseconds if count >= 0 else -microseconds)


def render(duration: timedelta) -> str:
    """Return `duration` in Go's notation, without units that are zero; the inverse of `parse`."""
    if not duration:
        return "0s"
    parts, rest = [], abs(duration)
    for unit, length in _RENDERED.items():
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if duration < timedelta() else "") + "".join(parts)
