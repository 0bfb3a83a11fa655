"""The log: what a line looks like, and what a request adds to it.

Everything goes through structlog: ``logger().warning("what happened", key=value)``. Lines have the
form and the field names of docker-distribution (logrus), so that what reads its log reads ours.

A value can never end a line or start a field: what is not printable is written as an escape. Values
are cut to `VALUE_LIMIT` characters, so that a line fits into `PIPE_BUF` and lines of several
workers that share a pipe don't interleave; only a stack trace may be longer.
"""

import json
import logging
import os
import re
import select
import stat
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast

import structlog
from structlog.typing import FilteringBoundLogger
from typing_extensions import override


if TYPE_CHECKING:
    from types import FrameType


FACTS: Final = "dockyard.facts"
"""The key of an ASGI scope under which its `RequestFacts` are."""

VALUE_LIMIT: Final = 512
"""Most characters of a logged value: seven of them and the rest of a line stay under 4 KiB."""

ESCAPED_LIMIT: Final = 96
"""Most characters of a value with unprintable ones, each of which may become six or twelve."""

REMEMBERED: Final = 1024
"""Most values whose quoted form is kept: under 300 KB."""

STACK_LIMIT: Final = 16 << 10
"""Most characters of a stack trace; its end, which names the error, is kept."""

WRITE_SECONDS: Final = 1.0
"""How long a line waits for whoever reads the log."""

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}

Fields: TypeAlias = MutableMapping[str, Any]

_PLAIN: Final = re.compile(r"[A-Za-z0-9\-._/@^+]+")
"""What logrus writes without quotes."""


@dataclass(slots=True)
class RequestFacts:
    """What is known about a request, for its lines in the log.

    `dockyard.http.request_log` makes it and puts it into the scope under `FACTS`; the application
    fills in what it finds out.

    Attributes:
        id: identifies the request in every line about it and in the ``X-Request-Id`` of its answer.
        name: the repository.
        reference: the tag or digest of a manifest.
        digest: the digest of a blob.
        uuid: the upload.
        user: who is asking, once that is proved.
        key: the name of the API key that they came with.
        code: the OCI code of the error answered, such as ``BLOB_UNKNOWN``.
        message: its message.
        detail: what the log, not the client, should know about it.
    """

    id: str
    name: str | None = None
    reference: str | None = None
    digest: str | None = None
    uuid: str | None = None
    user: str | None = None
    key: str | None = None
    code: str | None = None
    message: str | None = None
    detail: str | None = None


class LogOptions(Protocol):
    """The settings under ``log`` that concern a line's form."""

    @property
    def level(self) -> str:
        """The least important level to write: one of `LEVELS`."""
        ...

    @property
    def formatter(self) -> str:
        """``text``, ``json`` or ``logstash``."""
        ...

    @property
    def fields(self) -> Mapping[str, object]:
        """Fields of every line."""
        ...

    @property
    def reportcaller(self) -> bool:
        """Whether each line names the code that wrote it."""
        ...


class Lines:
    """Writes whole lines to a file descriptor, each by one system call.

    A failing write never fails a request: a line that can't be written (its reader is gone or does
    not read, the disk is full) is lost. Serving goes before logging: a reader that stops keeps us
    waiting once for `WRITE_SECONDS`; from then on lines are lost at once until it reads again.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll: select.poll | None = None
        self._patience = WRITE_SECONDS
        with suppress(OSError):
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                self._poll = select.poll()
                self._poll.register(descriptor, select.POLLOUT)

    def write(self, line: str) -> None:
        """Write `line` and its line end."""
        rest = (line + "\n").encode("utf-8", "backslashreplace")
        while rest and self._has_room():
            try:
                # What is no longer than PIPE_BUF never blocks where there is room for it.
                rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
            except BlockingIOError:
                continue  # someone else filled it
            except OSError:
                return

    def _has_room(self) -> bool:
        if self._poll is None:
            return True
        has_room = bool(self._poll.poll(self._patience * 1000))
        self._patience = WRITE_SECONDS if has_room else 0.0
        return has_room

    def debug(self, line: str) -> None:
        """Write `line`; structlog calls the method named after the level."""
        self.write(line)

    info = warning = error = critical = exception = msg = debug


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
        self._clock = clock
        self._quoted: dict[str, str] = {}

    def __call__(self, _logger: object, level: str, event: Fields) -> str:
        """Return the line for `event`."""
        message = self._value(event.pop("event"))
        stack = event.pop("stack", None)
        quoted = self._quoted
        fields = "".join(
            [f" {key}={quoted.get(event[key]) or self._value(event[key])}" for key in sorted(event)]
        )
        if stack is not None:
            fields += " stack=" + json.dumps(stack)
        message = message if message.startswith('"') else f'"{message}"'
        level = _level_name(level)
        return f'time="{self._clock.render()}" level={level} msg={message}{fields}{self._tail}'

    def _value(self, value: object) -> str:
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
        self._clock = clock

    def __call__(self, _logger: object, level: str, event: Fields) -> str:
        """Return the line for `event`."""
        line: dict[str, object] = {
            self._time: self._clock.render(),
            "level": _level_name(level),
            self._message: shorten(str(event.pop("event"))),
        }
        stack = event.pop("stack", None)
        for key, value in event.items():
            line[key] = value if isinstance(value, int) else shorten(str(value))
        if stack is not None:
            line["stack"] = stack
        return json.dumps(line)[:-1] + self._tail


def _level_name(method: str) -> str:
    """Return logrus' name of the level that structlog's `method` logs at."""
    return _LEVEL_NAMES.get(method, method)


_LEVEL_NAMES: Final = {"exception": "error", "critical": "fatal"}


def _with_stack(_logger: object, _method: str, event: Fields) -> Fields:
    """Turn an exception into the text of its trace."""
    found = event.pop("exc_info", None)
    if found:
        error = found if isinstance(found, BaseException) else sys.exc_info()[1]
        if error is not None:
            event["stack"] = "".join(traceback.format_exception(error))[-STACK_LIMIT:]
    return event


def _with_caller(_logger: object, _method: str, event: Fields) -> Fields:
    """Name the code that logged."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 -- what `inspect` and structlog use
    while frame and frame.f_globals.get("__name__", "").startswith(("structlog", __name__)):
        frame = frame.f_back
    if frame is not None:
        event["file"] = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        event["func"] = frame.f_code.co_qualname
    return event


class _Forward(logging.Handler):
    """Hands what libraries log by the standard module to our log."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        level = min(record.levelno, logging.ERROR)
        error = record.exc_info[1] if record.exc_info else None
        logger().log(level, record.getMessage(), logger=record.name, exc_info=error)


def configure(
    options: LogOptions, descriptor: int = 2, constants: Mapping[str, str] | None = None
) -> None:
    """Send the log of this process to `descriptor` in the form that `options` ask for.

    Called once at start; loggers taken before it write in structlog's own form.

    Args:
        options: level, formatter, fields.
        descriptor: an open file descriptor; standard error by default, as in distribution.
        constants: fields of every line besides those of `options`.
    """
    fields = {key: str(value) for key, value in options.fields.items()}
    fields |= constants or {}
    form: Text | Json
    if options.formatter == "text":
        form = Text(fields, Clock())
    else:
        form = Json(fields, Clock(), logstash=options.formatter == "logstash")
    lines = Lines(descriptor)
    structlog.configure(
        processors=[_with_stack, *([_with_caller] if options.reportcaller else []), form],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[options.level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


def logger() -> FilteringBoundLogger:
    """Return the log of this process as `configure` set it up."""
    return cast("FilteringBoundLogger", structlog.get_logger().bind())


def line_writer() -> Callable[[str, Fields], None]:
    """Return what writes a line at a level, given as structlog's method name, without a logger.

    For the lines of every request: it saves the copies that a bound logger makes. The caller looks
    at the level; the fields, with the message as ``event``, are used up.
    """
    settings = structlog.get_config()
    processors, lines = settings["processors"], settings["logger_factory"]()

    def write(method: str, event: Fields) -> None:
        line: Any = event
        for processor in processors:
            line = processor(lines, method, line)
        lines.msg(line)

    return write
