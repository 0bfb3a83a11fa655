"""What is logged about every request, and the answer when the application fails.

One line of the access log (Apache's combined format, standard output) and one of the log
(``response completed``, ``response completed with error``; standard error), both with the field
names of docker-distribution.

Every request gets an identifier of ours, which its lines carry (``http.request.id``) and its answer
too (``X-Request-Id``), so that a user can quote it. A client's own ``X-Request-Id`` is not taken
over: any client could then give two requests one identifier.
"""

import logging
import secrets
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from itertools import count
from typing import Final, Protocol, TypeAlias

from dockyard.http.messages import Message, Receive, Scope, Send
from dockyard.http.replays import HEAD, REPLAY, Head, Replay, Replays
from dockyard.http.request_lines import (
    Account,
    Header,
    Stamp,
    host_of,
    peer_address,
    render_duration,
)
from dockyard.telemetry import FACTS, LineWriter, RequestFacts, logger
from dockyard.telemetry.lines import Lines


Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Known: TypeAlias = Callable[[], Replays | None]

SendAgain: TypeAlias = Callable[[bytes, bytes, bytes], bool]
"""Sends a whole answer: the fields of its head but for the value of the last one, that value, and
the body. Returns whether there was room for it."""

AtOnce: TypeAlias = Callable[[bytes, tuple[str, int] | None, SendAgain], bool]
"""See `RequestLog.answer_at_once`."""


class Observer(Protocol):
    """Is told of each request."""

    def began(self, scope: Scope) -> None:
        """Note that a request has begun."""
        ...

    def completed(self, scope: Scope, status: int, written: int, nanoseconds: int) -> None:
        """Note that a request has ended, after so many bytes of body and so much time."""
        ...


CLIENT_CLOSED: Final = 499
"""The status logged, never sent, when the client went away first. Source: nginx, distribution."""

UNKNOWN: Final = b'{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}\n'

_HOLES: Final = ("http.request.id", "http.request.remoteaddr", "http.response.duration")
"""What of the line about a request differs from one to the next of the same bytes."""


class RequestLog:
    """Wraps an application: measures, logs, and answers 500 for what it does not handle.

    Must be made in the process that serves: its identifiers begin with eight random bytes of
    the instance and go on with a count.

    Args:
        application: what answers.
        access: where the lines of the access log go, if anywhere.
        observer: is told of each request.
        known: returns the answers that may be given again, if there are any.
    """

    def __init__(
        self,
        application: Application,
        *,
        access: Lines | None = None,
        observer: Observer | None = None,
        known: Known = lambda: None,
    ) -> None:
        self._application = application
        self._access = access
        self._observer = observer
        self._log = logger()
        self._known = known
        self._writer = LineWriter()
        self._logs_completion = self._log.is_enabled_for(logging.INFO)
        self._prefix = secrets.token_hex(8)
        self._count = count(1)
        self._stamp = Stamp()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        facts = RequestFacts(f"{self._prefix}{next(self._count):012x}")
        scope[FACTS] = facts
        channel = _Channel(facts, receive, send)
        if self._observer is not None:
            self._observer.began(scope)
        try:
            await self._application(scope, channel.receive, channel.send)
            # Without a code: the application did not say itself why its response broke off.
            if not (channel.complete or channel.client_gone or facts.code):
                await self._answer_unknown(channel, RuntimeError("no complete response"))
        except CancelledError:
            facts.code, facts.message = "UNAVAILABLE", "service unavailable"
            facts.detail = "the service stopped before the request was answered"
            raise
        except Exception as error:  # noqa: BLE001 -- the one place that must catch whatever it is
            if not channel.client_gone:
                await self._answer_unknown(channel, error)
        finally:
            self._complete(scope, channel)

    async def _answer_unknown(self, channel: "_Channel", error: Exception) -> None:
        facts = channel.facts
        facts.code, facts.message = "UNKNOWN", "unknown error"
        self._log.error(
            "the request failed unexpectedly", exc_info=error, **{"http.request.id": facts.id}
        )
        if channel.status:
            return  # half an answer is sent: the server cuts it off, so that the client notices
        await channel.send(
            {
                "type": "http.response.start",
                "status": HTTPStatus.INTERNAL_SERVER_ERROR,
                "headers": [
                    (b"docker-distribution-api-version", b"registry/2.0"),
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(UNKNOWN)),
                ],
            }
        )
        await channel.send({"type": "http.response.body", "body": UNKNOWN})

    def _complete(self, scope: Scope, channel: "_Channel") -> None:
        duration = time.monotonic_ns() - channel.began
        status = channel.final_status
        failed = status == CLIENT_CLOSED or channel.facts.code is not None
        if failed or self._logs_completion or self._access is not None:
            account = Account(scope, channel.facts, status, channel.written, channel.headers)
            if failed:
                self._log_failure(account, duration, channel)
            elif self._logs_completion:
                completion = account.completion(duration)
                completion["event"] = "response completed"
                self._writer.write("info", completion)
            if self._access is not None:
                host, user, rest = account.access()
                self._access.write(f"{host} - {user} [{self._stamp.render()}] {rest}")
        if self._observer is not None:
            self._observer.completed(scope, status, channel.written, duration)
        replay: Replay | None = scope.get(REPLAY)
        if replay is not None and channel.complete and not failed:
            self._record(replay, scope, channel)

    def _record(self, replay: Replay, scope: Scope, channel: "_Channel") -> None:
        """Keep an answer as it was sent, with its lines as they were written.

        Not one that says how long the connection is kept: that is not up to who gives it again.
        """
        if any(name.lower() == b"connection" for name, _ in channel.headers):
            return
        account = Account(scope, channel.facts, channel.status, channel.written, channel.headers)
        line = None
        if self._logs_completion and account.remote:
            completion = {"event": "response completed", **account.completion(0)}
            line = self._writer.template("info", completion, _HOLES)
        if self._logs_completion and line is None:
            return
        head: Head = scope[HEAD]
        replay.fields = head.pack(tuple(channel.headers))
        replay.line, (_, replay.user, replay.access) = line, account.access()
        is_peer = account.remote == peer_address(scope.get("client"))
        replay.remote = None if is_peer else account.remote
        replay.scope = {"method": scope["method"], "path": scope["path"]}
        replay.home.keep(replay)

    def answer_at_once(
        self,
        head: bytes,
        client: tuple[str, int] | None,
        send: SendAgain,
    ) -> bool:
        """Answer a request again, if that can be done without waiting for anything.

        Args:
            head: what it is known by, as a `Head` has it.
            client: who is at the other end.
            send: sends the answer.

        Returns:
            Whether it was answered.
        """
        began = time.monotonic_ns()
        replays = self._known()
        if replays is None or client is None:
            return False
        replay = replays.find(head, client[0])
        if replay is None:
            return False
        identifier = f"{self._prefix}{next(self._count):012x}"
        body = replay.truth.body
        if not send(replay.fields, identifier.encode(), body):
            return False
        duration = time.monotonic_ns() - began
        remote = replay.remote or peer_address(client)
        if replay.line is not None:
            self._writer.fill(replay.line, identifier, remote, render_duration(duration))
        if self._access is not None:
            host = host_of(remote, client)
            stamp = self._stamp.render()
            self._access.gather(f"{host} - {replay.user} [{stamp}] {replay.access}")
        if self._observer is not None:
            self._observer.began(replay.scope)
            self._observer.completed(replay.scope, HTTPStatus.OK, len(body), duration)
        return True

    def _log_failure(self, account: Account, duration: int, channel: "_Channel") -> None:
        facts = channel.facts
        # A client that stops, that has yet to log in, or that guesses passwords, is no fault for
        # anyone to look at.
        level = _QUIET.get(channel.final_status, logging.ERROR)
        if not self._log.is_enabled_for(level):
            return
        completion = account.completion(duration)
        if facts.code is not None:
            # distribution's spelling: "blob unknown"
            completion["err.code"] = facts.code.lower().replace("_", " ")
        completion["err.message"] = facts.message or "the client went away"
        if facts.detail is not None:
            completion["err.detail"] = facts.detail
        self._log.log(level, "response completed with error", **completion)


_QUIET: Final = {CLIENT_CLOSED: logging.INFO, 401: logging.WARNING, 429: logging.WARNING}


class _Channel:
    """The receive and send of one request, observed."""

    __slots__ = (
        "_receive",
        "_send",
        "began",
        "client_gone",
        "complete",
        "facts",
        "headers",
        "status",
        "written",
    )

    def __init__(self, facts: RequestFacts, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.facts = facts
        self.began = time.monotonic_ns()
        self.status = 0  # until a response has begun
        self.headers: Iterable[Header] = ()
        self.written = 0
        self.complete = False
        self.client_gone = False

    @property
    def final_status(self) -> int:
        """The status to log; without an answer it is because the service stopped."""
        return CLIENT_CLOSED if self.client_gone else self.status or 503

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.complete:
            self.client_gone = True
        return message

    async def send(self, message: Message) -> None:
        try:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"X-Request-Id", self.facts.id.encode())]
                await self._send({**message, "headers": headers})
                self.status = int(message["status"])
                self.headers = headers
            else:
                await self._send(message)
                self.written += len(message.get("body", b""))
                self.complete = not message.get("more_body", False)
        except OSError:
            # ASGI 2.4: nobody reads any more.
            self.client_gone = True
            raise
