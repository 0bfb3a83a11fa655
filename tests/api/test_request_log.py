"""The request log around small applications, in process."""

import asyncio
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from dockyard.http.messages import Message, Receive, Scope, Send
from dockyard.http.request_lines import client_address, render_duration
from dockyard.http.request_log import Application, RequestLog
from dockyard.telemetry import FACTS, configure
from dockyard.telemetry.lines import Lines


class Pipe:
    def __init__(self) -> None:
        self._read, self.descriptor = os.pipe()
        os.set_blocking(self._read, False)

    def lines(self) -> list[str]:
        try:
            return os.read(self._read, 1 << 20).decode().splitlines()
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self._read)
        os.close(self.descriptor)


@pytest.fixture
def log() -> Iterator[Pipe]:
    pipe = Pipe()
    configure(_options(), pipe.descriptor)
    yield pipe
    structlog.reset_defaults()
    pipe.close()


@pytest.fixture
def access() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def _options(level: str = "info") -> Any:  # noqa: ANN401 -- stands for settings
    return type("O", (), {"level": level, "formatter": "json", "fields": {}, "reportcaller": False})


async def ask(
    application: Application,
    *headers: tuple[bytes, bytes],
    gone: bool = False,
    **changes: Any,  # noqa: ANN401 -- values of a scope
) -> list[Message]:
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "path": "/v2/",
        "raw_path": b"/v2/",
        "query_string": b"",
        "client": ("192.0.2.7", 4711),
        "headers": [(b"host", b"registry:5000"), *headers],
        **changes,
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if gone:
            raise OSError("gone")
        sent.append(message)

    await application(scope, receive, send)
    return sent


async def ok(scope: Scope, _receive: Receive, send: Send) -> None:
    facts = scope[FACTS]
    facts.name, facts.reference, facts.user = "a/b", "latest", "alice"
    headers = [(b"Content-Type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"abc", "more_body": True})
    await send({"type": "http.response.body", "body": b"de"})


async def boom(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ValueError("secret")


async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ValueError("secret")


async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
    return


async def unknown(scope: Scope, _receive: Receive, send: Send) -> None:
    facts = scope[FACTS]
    facts.code, facts.message = "BLOB_UNKNOWN", "blob unknown to registry"
    facts.detail = "two\nlines"
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def leave(_scope: Scope, receive: Receive, _send: Send) -> None:
    assert (await receive())["type"] == "http.disconnect"


async def stuck(_scope: Scope, _receive: Receive, _send: Send) -> None:
    await asyncio.Event().wait()


class TestLines:
    async def test_a_completed_response_has_distribution_s_fields(self, log: Pipe) -> None:
        sent = await ask(
            RequestLog(ok),
            (b"user-agent", b"docker/20.10"),
            (b"referer", b"http://r/"),
            query_string=b"n=1",
        )
        (line,) = map(json.loads, log.lines())
        identifier = dict(sent[0]["headers"])[b"X-Request-Id"].decode()
        assert re.fullmatch(r"[0-9a-f]{28}", identifier)
        assert re.fullmatch(r"[\d.]+(ns|µs|ms|s)", line.pop("http.response.duration"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line.pop("time"))
        assert line == {
            "level": "info",
            "msg": "response completed",
            "auth.user.name": "alice",
            "http.request.host": "registry:5000",
            "http.request.id": identifier,
            "http.request.method": "GET",
            "http.request.referer": "http://r/",
            "http.request.remoteaddr": "192.0.2.7:4711",
            "http.request.uri": "/v2/?n=1",
            "http.request.useragent": "docker/20.10",
            "http.response.contenttype": "text/plain",
            "http.response.status": 200,
            "http.response.written": 5,
            "vars.name": "a/b",
            "vars.reference": "latest",
        }

    async def test_an_error_line_names_code_and_cause(self, log: Pipe) -> None:
        await ask(RequestLog(unknown))
        (line,) = map(json.loads, log.lines())
        assert (line["level"], line["msg"]) == ("error", "response completed with error")
        assert line["err.code"] == "blob unknown"
        assert line["err.message"] == "blob unknown to registry"
        assert line["err.detail"] == "two\nlines"

    async def test_requests_have_different_identifiers(self, log: Pipe) -> None:
        application = RequestLog(ok)
        for _ in range(3):
            await ask(application, (b"x-request-id", b"mine"))
        assert len({json.loads(line)["http.request.id"] for line in log.lines()}) == 3

    async def test_nothing_is_logged_below_the_level(self, log: Pipe) -> None:
        configure(_options("error"), log.descriptor)
        await ask(RequestLog(ok))
        assert log.lines() == []
        await ask(RequestLog(unknown))
        assert len(log.lines()) == 1

    async def test_the_access_log_is_combined(self, log: Pipe, access: Pipe) -> None:
        application = RequestLog(ok, access=Lines(access.descriptor))
        await ask(application, (b"user-agent", b'a"b\\c\x1b\xff'), (b"referer", b"http://r/"))
        (line,) = access.lines()
        assert re.fullmatch(
            r"192\.0\.2\.7 - alice \[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d \+0000\] "
            r'"GET /v2/ HTTP/1\.1" 200 5 "http://r/" "a\\x22b\\x5cc\\x1b\\xff"',
            line,
        )
        assert log.lines()

    async def test_long_values_do_not_make_long_lines(self, log: Pipe, access: Pipe) -> None:
        application = RequestLog(ok, access=Lines(access.descriptor))
        long = b"\x01" * 20_000
        await ask(application, (b"user-agent", long), (b"referer", long), raw_path=long)
        assert all(len(line) < 8000 for line in access.lines() + log.lines())

    async def test_other_kinds_of_scope_pass_untouched(self, log: Pipe) -> None:
        kinds: list[str] = []

        async def note(scope: Scope, _receive: Receive, _send: Send) -> None:
            assert FACTS not in scope
            kinds.append(scope["type"])

        await ask(RequestLog(note), type="lifespan")
        assert kinds == ["lifespan"]
        assert log.lines() == []

    async def test_an_observer_is_told_both_ends(self, log: Pipe) -> None:
        events: list[tuple[object, ...]] = []

        class Observer:
            def began(self, scope: Scope) -> None:
                events.append(("began", scope["path"]))

            def completed(self, scope: Scope, status: int, written: int, nanoseconds: int) -> None:
                events.append(("completed", scope["path"], status, written))
                assert nanoseconds > 0

        await ask(RequestLog(ok, observer=Observer()))
        assert events == [("began", "/v2/"), ("completed", "/v2/", 200, 5)]
        assert log.lines()

    async def test_an_unauthenticated_request_is_a_warning(self, log: Pipe) -> None:
        """Each client's first request is one, so it is no error."""

        async def challenge(scope: Scope, _receive: Receive, send: Send) -> None:
            scope[FACTS].code, scope[FACTS].message = "UNAUTHORIZED", "authentication required"
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body"})

        await ask(RequestLog(challenge))
        (line,) = map(json.loads, log.lines())
        assert line["level"] == "warning"


class TestFailures:
    async def test_a_failure_is_500_with_the_envelope(self, log: Pipe) -> None:
        start, body = await ask(RequestLog(boom))
        assert start["status"] == 500
        headers = dict(start["headers"])
        assert headers[b"docker-distribution-api-version"] == b"registry/2.0"
        assert headers[b"content-type"] == b"application/json"
        expected = b'{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}\n'
        assert body["body"] == expected
        trace, line = map(json.loads, log.lines())
        assert trace["level"] == "error"
        assert "ValueError: secret" in trace["stack"]
        assert trace["http.request.id"] == line["http.request.id"]
        assert (line["err.code"], line["http.response.status"]) == ("unknown", 500)

    async def test_an_application_that_does_not_answer_is_a_failure(self, log: Pipe) -> None:
        start, _ = await ask(RequestLog(silent))
        assert start["status"] == 500
        assert log.lines()

    async def test_a_failure_within_a_response_adds_nothing_to_it(self, log: Pipe) -> None:
        sent = await ask(RequestLog(half))
        assert [message["type"] for message in sent] == ["http.response.start"]
        assert "ValueError: secret" in log.lines()[0]

    @pytest.mark.parametrize(("application", "gone"), [(leave, False), (ok, True)])
    async def test_a_client_that_left_is_499_and_no_fault(
        self, log: Pipe, application: Application, *, gone: bool
    ) -> None:
        assert await ask(RequestLog(application), gone=gone) == []
        (line,) = map(json.loads, log.lines())
        assert line["http.response.status"] == 499
        assert line["level"] == "info"
        assert line["err.message"] == "the client went away"

    async def test_a_request_cut_off_at_the_end_is_logged(self, log: Pipe) -> None:
        asking = asyncio.create_task(ask(RequestLog(stuck)))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        (line,) = map(json.loads, log.lines())
        assert (line["err.code"], line["http.response.status"]) == ("unavailable", 503)


class TestClientAddress:
    PEER = ("192.0.2.7", 4711)

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ([], "192.0.2.7:4711"),
            ([(b"x-forwarded-for", b"198.51.100.1, 10.0.0.1")], "198.51.100.1"),
            ([(b"x-forwarded-for", b" 2001:db8::1")], "2001:db8::1"),
            ([(b"x-real-ip", b"198.51.100.2")], "198.51.100.2"),
            (
                [(b"x-real-ip", b"198.51.100.2"), (b"x-forwarded-for", b"198.51.100.1")],
                "198.51.100.1",
            ),
            ([(b"x-forwarded-for", b"unknown"), (b"x-real-ip", b"198.51.100.2")], "198.51.100.2"),
            ([(b"x-forwarded-for", b'evil" msg="x')], "192.0.2.7:4711"),
            ([(b"x-forwarded-for", b"\xff")], "192.0.2.7:4711"),
        ],
    )
    def test_only_addresses_are_believed(
        self, headers: list[tuple[bytes, bytes]], expected: str
    ) -> None:
        assert client_address(headers, self.PEER) == expected

    def test_a_unix_socket_has_none(self) -> None:
        assert client_address([], None) == ""

    def test_ipv6_is_bracketed(self) -> None:
        assert client_address([], ("::1", 5)) == "[::1]:5"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0ns"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (1_234_567, "1.23457ms"),
        (2_500_000_000, "2.5s"),
    ],
)
def test_durations_are_go_s(nanoseconds: int, text: str) -> None:
    assert render_duration(nanoseconds) == text
