import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest
import structlog
from hypothesis import given, strategies as st

from dockyard.telemetry import configure, logger
from dockyard.telemetry.forms import Clock, Json, Text, quote
from dockyard.telemetry.lines import Lines


@dataclass
class Options:
    level: str = "info"
    formatter: str = "text"
    fields: Mapping[str, object] = field(default_factory=dict)
    reportcaller: bool = False


class Reader:
    """The other end of a log."""

    def __init__(self) -> None:
        self._read, self.descriptor = os.pipe()

    def lines(self) -> list[str]:
        os.set_blocking(self._read, False)
        try:
            return os.read(self._read, 1 << 20).decode().splitlines()
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self._read)
        os.close(self.descriptor)


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    logging.getLogger().handlers.clear()


MOMENT = Clock(lambda: 1_767_323_045_060_000_000)


class TestForms:
    def test_text_is_that_of_logrus(self) -> None:
        line = Text({"service": "registry"}, MOMENT)(
            None, "info", {"event": "response completed", "b": 2, "a.x": "y z", "c": 'q"\\'}
        )
        assert line == (
            'time="2026-01-02T03:04:05.06Z" level=info msg="response completed" '
            'a.x="y z" b=2 c="q\\"\\\\" service=registry'
        )

    def test_json_is_an_object_a_line(self) -> None:
        line = Json({"service": "registry"}, MOMENT, logstash=False)(
            None, "warning", {"event": "x", "n": 2}
        )
        assert json.loads(line) == {
            "time": "2026-01-02T03:04:05.06Z",
            "level": "warning",
            "msg": "x",
            "n": 2,
            "service": "registry",
        }

    def test_logstash_has_its_own_names(self) -> None:
        line = Json({}, MOMENT, logstash=True)(None, "error", {"event": "x"})
        assert json.loads(line) == {
            "@timestamp": "2026-01-02T03:04:05.06Z",
            "@version": "1",
            "level": "error",
            "message": "x",
        }

    @given(st.text(), st.text(max_size=40))
    def test_no_value_breaks_out_of_its_field(self, value: str, message: str) -> None:
        for form in (Text({}, MOMENT), Json({}, MOMENT, logstash=False)):
            line = form(None, "info", {"event": message, "a": value, "z": "end"})
            assert line.isprintable()
            assert len(line.encode()) < 4000
        text = Text({}, MOMENT)(None, "info", {"event": "m", "a": value, "z": "end"})
        plain = r"[A-Za-z0-9\-._/@^+…]*"
        assert re.fullmatch(
            rf'time="\S+" level=info msg="m" a=(?:{plain}|"(?:[^"\\]|\\.)*"…?) z=end', text
        )

    def test_long_values_are_cut(self) -> None:
        assert len(quote("a" * 10_000)) < 600
        assert len(quote("\n" * 10_000)) < 1300

    def test_the_second_is_rendered_anew(self) -> None:
        moments = iter([1_000_000_000, 1_500_000_000, 2_000_000_000])
        clock = Clock(lambda: next(moments))
        assert [clock.render() for _ in range(3)] == [
            "1970-01-01T00:00:01Z",
            "1970-01-01T00:00:01.5Z",
            "1970-01-01T00:00:02Z",
        ]


class TestConfigured:
    @pytest.mark.parametrize(
        ("level", "expected"),
        [
            ("debug", ["debug", "info", "warning", "error", "fatal"]),
            ("info", ["info", "warning", "error", "fatal"]),
            ("warn", ["warning", "error", "fatal"]),
            ("error", ["error", "fatal"]),
        ],
    )
    def test_less_important_lines_are_not_written(
        self, reader: Reader, level: str, expected: list[str]
    ) -> None:
        configure(Options(level=level, formatter="json"), reader.descriptor)
        log = logger()
        for method in (log.debug, log.info, log.warning, log.error, log.critical):
            method("x")
        assert [json.loads(line)["level"] for line in reader.lines()] == expected

    def test_fields_are_in_every_line(self, reader: Reader) -> None:
        fields = {"service": "registry", "number": 7}
        configure(Options(fields=fields), reader.descriptor, {"instance.id": "1"})
        logger().info("x")
        (line,) = reader.lines()
        assert line.endswith(" instance.id=1 number=7 service=registry")

    def test_the_caller_is_named_on_request(self, reader: Reader) -> None:
        configure(Options(formatter="json", reportcaller=True), reader.descriptor)
        logger().info("x")
        line = json.loads(reader.lines()[0])
        assert re.search(r"test_telemetry\.py:\d+$", line["file"])
        assert line["func"].endswith("test_the_caller_is_named_on_request")

    def test_an_exception_is_one_line_with_its_trace(self, reader: Reader) -> None:
        configure(Options(), reader.descriptor)
        try:
            raise ValueError("broken\nline")  # noqa: TRY301 -- raised to be logged
        except ValueError:
            logger().exception("it failed")
        (line,) = reader.lines()
        assert 'level=error msg="it failed"' in line
        assert "ValueError: broken" in line

    def test_what_libraries_log_is_in_the_same_form(self, reader: Reader) -> None:
        configure(Options(), reader.descriptor)
        logging.getLogger("asyncio").error("task %s", "lost")
        logging.getLogger("asyncio").info("not of interest")
        (line,) = reader.lines()
        assert 'level=error msg="task lost" ' in line
        assert "logger=asyncio" in line


class TestLines:
    def test_a_reader_that_is_gone_fails_nobody(self) -> None:
        read, write = os.pipe()
        os.close(read)
        Lines(write).write("lost")
        os.close(write)
        Lines(write).write("lost")

    def test_a_reader_that_does_not_read_delays_once_and_then_no_more(self) -> None:
        read, write = os.pipe()
        lines = Lines(write)
        began = time.monotonic()
        for _ in range(200):
            lines.write("x" * 1000)
        assert time.monotonic() - began < 2.0
        os.read(read, 1 << 20)
        lines.write("back")
        assert os.read(read, 100) == b"back\n"
        os.close(read)
        os.close(write)
