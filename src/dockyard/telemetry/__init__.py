"""The log: what a line looks like, and what a request adds to it.

Everything goes through structlog: ``logger().warning("what happened", key=value)``. Lines have the
form and the field names of docker-distribution (logrus), so that what reads its log reads ours.

A value can never end a line or start a field: what is not printable is written as an escape. Values
are cut to `VALUE_LIMIT` characters, so that a line fits into `PIPE_BUF` and lines of several
workers that share a pipe don't interleave; only a stack trace may be longer.
"""

import logging
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import structlog
from structlog.typing import FilteringBoundLogger
from typing_extensions import override

from dockyard.telemetry.forms import STACK_LIMIT, Clock, Fields, Json, Text
from dockyard.telemetry.lines import Lines


if TYPE_CHECKING:
    from types import FrameType


FACTS: Final = "dockyard.facts"
"""The key of an ASGI scope under which its `RequestFacts` are."""

_PROCESSORS: Final = 2
"""How many there are where a line does not name the code that wrote it."""

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


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


class LineWriter:
    """Writes lines about requests, without a logger: it saves the copies that a bound logger makes.

    Made after `configure`. Who uses it looks at the level.
    """

    def __init__(self) -> None:
        settings = structlog.get_config()
        self._processors: Final = settings["processors"]
        self._lines: Final = settings["logger_factory"]()

    def write(self, method: str, event: Fields) -> None:
        """Write the line of `event`, whose fields are used up; its message is ``event``.

        The level is given as structlog's method name.
        """
        line: Any = event
        for processor in self._processors:
            line = processor(self._lines, method, line)
        self._lines.msg(line)

    def template(self, method: str, event: Fields, holes: Sequence[str]) -> str | None:
        """Return the line of `event` for Python's ``%``; `None` if it is to name the code too.

        Its holes are the time and then, as `Form.value` renders them, the fields `holes`, which
        come in this order in the line too.
        """
        form = self._processors[-1]
        if len(self._processors) > _PROCESSORS or not isinstance(form, (Text, Json)):
            return None
        return form.template(method, event, holes)

    def fill(self, template: str, *values: str) -> None:
        """Write a line from a template, soon, with a value for each of its holes but the time."""
        form = self._processors[-1]
        self._lines.gather(template % (form.clock.render(), *map(form.value, values)))
