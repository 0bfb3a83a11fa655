"""What a line of the log looks like: the forms of docker-distribution (logrus)."""

import json
import re
import time
from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, Final, TypeAlias


VALUE_LIMIT: Final = 512
"""Most characters of a logged value: seven of them and the rest of a line stay under 4 KiB."""

ESCAPED_LIMIT: Final = 96
"""Most characters of a value with unprintable ones, each of which may become six or twelve."""

REMEMBERED: Final = 1024
"""Most values whose quoted form is kept: under 300 KB."""

STACK_LIMIT: Final = 16 << 10
"""Most characters of a stack trace; its end, which names the error, is kept."""

Fields: TypeAlias = MutableMapping[str, Any]

_PLAIN: Final = re.compile(r"[A-Za-z0-9\-._/@^+]+")
"""What logrus writes without quotes."""


class Clock:
    """Renders the present as RFC 3339 in UTC with nanoseconds, as Go's RFC3339Nano does."""

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._second = -1
        self._text = ""

    def render(self) -> str:
        """Return the present moment, such as ``2026-01-02T03:04:05.06Z``."""
        second, nanoseconds = divmod(self._now(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        if not nanoseconds:
            return self._text + "Z"
        return f"{self._text}.{nanoseconds:09d}".rstrip("0") + "Z"


def quote(text: str) -> str:
    """Return `text` as logrus writes a value: as it is if that is safe, else in quotes."""
    text = shorten(text)
    if _PLAIN.fullmatch(text) or not text:
        return text
    if text.isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return json.dumps(text)


def shorten(text: str) -> str:
    """Return `text`, cut so that its escaped form stays within a line's bounds."""
    if len(text) <= ESCAPED_LIMIT:
        return text
    limit = VALUE_LIMIT if text.isprintable() else ESCAPED_LIMIT
    return text if len(text) <= limit else text[:limit] + "…"


class Text:
    """Renders lines as logrus' text formatter does where there is no terminal.

    Most values come again and again (names, hosts, programs), so their quoted forms are kept:
    at most `REMEMBERED`, none longer than `ESCAPED_LIMIT`.
    """

    def __init__(self, constants: Mapping[str, str], clock: Clock) -> None:
        self._tail = "".join(f" {key}={quote(value)}" for key, value in sorted(constants.items()))
        self.clock: Final = clock
        self._quoted: dict[str, str] = {}

    def __call__(self, _logger: object, level: str, event: Fields) -> str:
        """Return the line for `event`."""
        message = self.value(event.pop("event"))
        stack = event.pop("stack", None)
        quoted = self._quoted
        fields = "".join(
            [f" {key}={quoted.get(event[key]) or self.value(event[key])}" for key in sorted(event)]
        )
        if stack is not None:
            fields += " stack=" + json.dumps(stack)
        return self._line(self.clock.render(), level, message, fields + self._tail)

    def template(self, level: str, event: Fields, holes: Collection[str]) -> str:
        """Return the line for `event` as a template for ``%``: see `LineWriter.template`."""
        message = _literal(self.value(event.pop("event")))
        fields = "".join(
            f" {key}={'%s' if key in holes else _literal(self.value(event[key]))}"
            for key in sorted(event)
        )
        return self._line("%s", level, message, fields + _literal(self._tail))

    def _line(self, time: str, level: str, message: str, rest: str) -> str:
        message = message if message.startswith('"') else f'"{message}"'
        return f'time="{time}" level={_level_name(level)} msg={message}{rest}'

    def value(self, value: object) -> str:
        """Return a value as it stands in a line."""
        text = str(value)
        quoted = quote(text)
        if len(text) <= ESCAPED_LIMIT:
            if len(self._quoted) >= REMEMBERED:
                self._quoted.clear()
            self._quoted[text] = quoted
        return quoted


class Json:
    """Renders lines as JSON objects."""

    def __init__(self, constants: Mapping[str, str], clock: Clock, *, logstash: bool) -> None:
        fixed = dict(sorted(constants.items())) | ({"@version": "1"} if logstash else {})
        self._tail = ", " + json.dumps(fixed)[1:] if fixed else "}"
        self._time, self._message = ("@timestamp", "message") if logstash else ("time", "msg")
        self.clock: Final = clock

    def __call__(self, _logger: object, level: str, event: Fields) -> str:
        """Return the line for `event`."""
        line: dict[str, object] = {
            self._time: self.clock.render(),
            "level": _level_name(level),
            self._message: shorten(str(event.pop("event"))),
        }
        stack = event.pop("stack", None)
        for key, value in event.items():
            line[key] = value if isinstance(value, int) else shorten(str(value))
        if stack is not None:
            line["stack"] = stack
        return json.dumps(line)[:-1] + self._tail

    def template(self, level: str, event: Fields, holes: Collection[str]) -> str:
        """Return the line for `event` as a template for ``%``: see `LineWriter.template`."""
        told = {"level": _level_name(level), self._message: event.pop("event"), **event}
        parts = (
            f"{json.dumps(key)}: {'%s' if key in holes else _literal(self.value(value))}"
            for key, value in told.items()
        )
        return f'{{"{self._time}": "%s", {", ".join(parts)}{_literal(self._tail)}'

    def value(self, value: object) -> str:
        """Return a value as it stands in a line."""
        return json.dumps(value if isinstance(value, int) else shorten(str(value)))


def _literal(text: str) -> str:
    """Return `text` for a template of ``%``, in which it stands for itself."""
    return text.replace("%", "%%")


def _level_name(method: str) -> str:
    """Return logrus' name of the level that structlog's `method` logs at."""
    return _LEVEL_NAMES.get(method, method)


_LEVEL_NAMES: Final = {"exception": "error", "critical": "fatal"}
