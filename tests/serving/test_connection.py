"""What a connection does beyond well-formed requests: bounds, deadlines, early and late ends."""

import asyncio
from dataclasses import replace

import pytest

from tests.serving.probe import QUICK, SECONDS, Served, eventually, serve, statuses


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def post(length: int, *fields: bytes, target: bytes = b"/echo") -> bytes:
    size = b"Content-Length: %d" % length
    return b"\r\n".join((b"POST " + target + b" HTTP/1.1", b"Host: a", size, *fields, b"", b""))


async def flood(writer: asyncio.StreamWriter, part: bytes) -> None:
    """Send `part` again and again, to at most 1 GB."""
    for _ in range((1 << 30) // len(part)):
        writer.write(part)
        await writer.drain()


class TestHeads:
    async def test_a_slow_head_is_refused(self, served: Served) -> None:
        answers = await served.talk(b"GET / HT", b"TP/1.1\r\n", b"Host: a\r\n", pause=0.15)
        assert statuses(answers) == [408]

    async def test_a_dripping_head_is_refused(self, served: Served) -> None:
        """Each byte is progress, but the head as a whole has a deadline."""
        reader, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nX: ")

        async def drip() -> None:
            while True:
                writer.write(b"a")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        answers = await asyncio.wait_for(reader.read(-1), SECONDS)
        dripping.cancel()
        assert statuses(answers) == [408]
        writer.close()

    async def test_a_silent_connection_is_closed_without_a_word(self, served: Served) -> None:
        assert await served.talk() == b""

    async def test_an_idle_connection_is_closed_without_a_word(self, served: Served) -> None:
        assert statuses(await served.talk(GET)) == [200]

    async def test_a_long_request_line_is_414(self, served: Served) -> None:
        answers = await served.talk(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert statuses(answers) == [414]

    async def test_an_endless_request_line_is_414_before_it_ends(self, served: Served) -> None:
        assert statuses(await served.talk(b"GET /" + b"a" * 9000)) == [414]

    async def test_large_fields_are_431(self, served: Served) -> None:
        answers = await served.talk(GET[:-2] + b"X: " + b"a" * 33_000 + b"\r\n\r\n")
        assert statuses(answers) == [431]

    async def test_endless_fields_are_431_before_they_end(self, served: Served) -> None:
        assert statuses(await served.talk(GET[:-2] + b"X: y\r\n" * 9000)) == [431]

    async def test_101_fields_are_431(self, served: Served) -> None:
        assert statuses(await served.talk(GET[:-2] + b"X: y\r\n" * 100 + b"\r\n")) == [431]

    async def test_100_fields_of_30_kib_are_served(self, served: Served) -> None:
        fields = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 290) for number in range(98))
        assert statuses(await served.talk(LAST[:-2] + fields + b"\r\n")) == [200]


class TestBodies:
    async def test_a_large_body_arrives_whole(self, served: Served) -> None:
        body = bytes(range(256)) * 40_000
        answers = await served.talk(post(len(body), b"Connection: close"), body)
        assert statuses(answers) == [200]
        assert served.probe.bodies == [len(body)]

    async def test_the_client_is_told_to_continue(self, served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(post(3, b"Expect: 100-Continue", b"Connection: close"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert statuses(await reader.read(-1)) == [200]
        writer.close()

    async def test_an_answer_instead_of_continue_ends_the_connection(self, served: Served) -> None:
        answers = await served.talk(post(3, b"Expect: 100-continue", target=b"/early"))
        assert statuses(answers) == [413]
        assert b"\r\nConnection: close\r\n" in answers

    async def test_a_silent_body_is_408_and_the_application_told(self, served: Served) -> None:
        answers = await served.talk(post(100), b"a")
        assert statuses(answers) == [408]
        await eventually(lambda: served.probe.cut_off == 1)

    async def test_a_body_below_the_least_rate_is_408(self, served: Served) -> None:
        drip = [b"a" * 10] * 100
        reader, writer = await served.connect()
        writer.write(post(10_000))

        async def send() -> None:
            for part in drip:
                writer.write(part)
                await asyncio.sleep(0.02)

        sending = asyncio.create_task(send())
        assert statuses(await asyncio.wait_for(reader.read(-1), SECONDS)) == [408]
        sending.cancel()
        writer.close()

    async def test_a_body_above_the_least_rate_may_take_several_windows(
        self, served: Served
    ) -> None:
        parts = [b"a" * 500] * 12
        answers = await served.talk(post(6000, b"Connection: close"), *parts, pause=0.08)
        assert statuses(answers) == [200]
        assert served.probe.bodies == [6000]

    async def test_many_small_chunks_are_joined_while_they_wait(self, served: Served) -> None:
        head = b"POST /gate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        reader, writer = await served.connect()
        writer.write(head + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n" + LAST)
        await eventually(lambda: served.probe.seen)
        served.probe.gate.set()
        assert statuses(await asyncio.wait_for(reader.read(-1), SECONDS)) == [200, 200]
        writer.close()

    async def test_a_client_that_leaves_within_its_body_is_noticed(self, served: Served) -> None:
        assert await served.ask(post(100) + b"a") == b""
        await eventually(lambda: served.probe.cut_off == 1)

    async def test_a_slow_application_is_not_the_client_s_fault(self, served: Served) -> None:
        """The application does not read, so we don't, and no window is held against the client."""
        reader, writer = await served.connect()
        writer.write(post(1 << 20, b"Connection: close", target=b"/gate"))
        writer.write(bytes(1 << 20))
        await asyncio.sleep(4 * QUICK.body_window_seconds)
        served.probe.gate.set()
        assert statuses(await asyncio.wait_for(reader.read(-1), SECONDS)) == [200]
        writer.close()


class TestEarlyAnswers:
    async def test_the_answer_is_readable_by_who_sends_everything_first(
        self, served: Served
    ) -> None:
        answers = await served.talk(post(3 << 20, target=b"/early"), bytes(3 << 20))
        assert statuses(answers) == [413]
        assert answers.endswith(b"too much\n")
        assert b"\r\nConnection: close\r\n" in answers

    async def test_who_goes_on_beyond_the_bound_is_cut_off(self, served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(post(1 << 30, target=b"/early"))
        assert statuses(await asyncio.wait_for(reader.readuntil(b"much\n"), SECONDS)) == [413]
        with pytest.raises(ConnectionError):
            await flood(writer, bytes(1 << 20))

    async def test_who_does_not_close_is_closed(self, served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(post(1 << 30, target=b"/early"))
        await reader.read(-1)
        await eventually(lambda: not served.acceptor.connections)
        writer.close()

    async def test_a_short_remainder_saves_the_connection(self, served: Served) -> None:
        head = post(2000, target=b"/early")
        answers = await served.talk(head, bytes(1000), bytes(1000) + LAST, pause=0.05)
        assert statuses(answers) == [413, 200]


class TestResponses:
    async def test_head_has_no_body(self, served: Served) -> None:
        answers = await served.ask(b"HEAD /odd HTTP/1.1\r\nHost: a\r\n\r\n", LAST)
        assert statuses(answers) == [200, 200]
        assert answers.count(b"\r\n\r\n") == 2
        assert b"abc" not in answers

    async def test_no_content_has_neither_body_nor_length(self, served: Served) -> None:
        answers = await served.ask(b"GET /empty HTTP/1.1\r\nHost: a\r\n\r\n")
        assert statuses(answers) == [204]
        assert b"ength" not in answers
        assert answers.endswith(b"\r\n\r\n")

    async def test_a_body_of_unknown_length_is_chunked(self, served: Served) -> None:
        answers = await served.ask(b"GET /odd HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answers.endswith(b"\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")

    async def test_there_is_a_date_and_no_server_name(self, served: Served) -> None:
        answers = (await served.ask(GET)).lower()
        assert answers.count(b"\r\ndate: ") == 1
        assert b"\r\nserver:" not in answers
        assert b"uvicorn" not in answers

    async def test_a_header_cannot_be_smuggled_into_a_response(self, served: Served) -> None:
        answers = await served.ask(b"GET /split HTTP/1.1\r\nHost: a\r\n\r\n")
        assert statuses(answers) == [500]
        assert b"x-b" not in answers

    async def test_a_failure_is_an_envelope_without_reason(self, served: Served) -> None:
        answers = await served.ask(b"GET /boom HTTP/1.1\r\nHost: a\r\n\r\n", LAST)
        assert statuses(answers) == [500, 200]
        assert b'\r\n\r\n{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}\n' in answers
        assert b"secret" not in answers

    async def test_a_failure_within_a_response_cuts_it_off(self, served: Served) -> None:
        answers = await served.talk(b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        assert answers.endswith(b"\r\n\r\nabc")
        assert statuses(answers) == [200]

    async def test_a_cut_off_is_visible_even_without_a_length(self, served: Served) -> None:
        with pytest.raises(ConnectionResetError):
            await served.talk(b"GET /endless HTTP/1.0\r\n\r\n")

    async def test_a_client_that_reads_slowly_gets_everything(self, served: Served) -> None:
        reader, writer = await served.connect(receive_buffer=4096)
        size = 8 << 20
        writer.write(b"GET /big?%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % size)
        received = 0
        async with asyncio.timeout(SECONDS):
            while data := await reader.read(1 << 16):
                received += len(data)
                if received < size // 8:
                    await asyncio.sleep(0.005)
        assert received > size
        assert served.probe.sent == size
        writer.close()

    async def test_a_client_that_stops_reading_is_given_up(self, served: Served) -> None:
        _, writer = await served.connect(receive_buffer=4096)
        writer.write(b"GET /big?%d HTTP/1.1\r\nHost: a\r\n\r\n" % (1 << 30))
        await eventually(lambda: served.probe.cut_off == 1)
        assert served.probe.sent < 32 << 20
        writer.close()

    async def test_a_client_that_stops_reading_does_not_keep_a_finished_response(
        self, served: Served
    ) -> None:
        """The application is done, the last bytes are with us: the deadline still holds."""
        _, writer = await served.connect(receive_buffer=4096)
        size = 3 << 20
        writer.write(b"GET /big?%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % size)
        await eventually(lambda: served.probe.sent)
        await eventually(lambda: not served.acceptor.connections)
        writer.close()

    async def test_who_closes_its_sending_side_still_gets_the_answer(self, served: Served) -> None:
        asking = asyncio.create_task(served.ask(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n"))
        await eventually(lambda: served.probe.seen)
        served.probe.gate.set()
        assert statuses(await asking) == [200]

    async def test_a_broken_body_behind_the_answer_s_start_cuts_it_off(
        self, served: Served
    ) -> None:
        head = b"POST /eager HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        answers = await served.talk(head, b"nonsense\r\n", pause=0.05)
        assert statuses(answers) == [200]
        assert answers.endswith(b"5\r\neager\r\n")
        await eventually(lambda: served.probe.cut_off == 1)

    async def test_the_application_may_end_the_connection(self, served: Served) -> None:
        answers = await served.talk(b"GET /closing HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        assert statuses(answers) == [200]
        assert answers.count(b"\r\nConnection: close\r\n") == 1

    @pytest.mark.parametrize("path", [b"boom", b"rude", b"long", b"less", b"coding", b"split"])
    async def test_an_application_that_breaks_the_rules_is_answered_for(self, path: bytes) -> None:
        async with serve(bare=True) as served:
            answers = await served.talk(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % path + GET)
        assert statuses(answers) == [500]
        assert answers.endswith(b"\r\n\r\nInternal Server Error\n")

    async def test_nothing_is_added_to_a_finished_response(self) -> None:
        async with serve(bare=True) as served:
            answers = await served.ask(b"GET /twice HTTP/1.1\r\nHost: a\r\n\r\n", LAST)
        assert statuses(answers) == [200, 200]
        assert b"twice" not in answers


class TestPipelining:
    async def test_requests_are_answered_in_order_one_at_a_time(self, served: Served) -> None:
        gate = b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n"
        asking = asyncio.create_task(served.talk(gate + GET * 3 + LAST))
        await eventually(lambda: served.probe.seen)
        await asyncio.sleep(0.05)
        assert len(served.probe.seen) == 1
        served.probe.gate.set()
        answers = await asking
        assert statuses(answers) == [200] * 5
        assert answers.index(b"open") < answers.index(b"ok")

    async def test_what_waits_is_bounded(self, served: Served) -> None:
        _, writer = await served.connect()
        writer.write(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flood(writer, GET * 8000), 0.7)
        assert max(connection.pending for connection in served.acceptor.connections) < 1 << 19
        writer.transport.abort()

    async def test_many_are_all_answered(self, served: Served) -> None:
        answers = await served.talk(GET * 2000 + LAST)
        assert statuses(answers) == [200] * 2001


class TestEnds:
    async def test_one_connection_too_many_is_told_so(self) -> None:
        async with serve(replace(QUICK, connections=2, idle_seconds=9, head_seconds=9)) as served:
            held = [await served.connect() for _ in range(2)]
            await eventually(lambda: len(served.acceptor.connections) == 2)
            assert statuses(await served.talk(GET)) == [503]
            held[0][1].close()
            await eventually(lambda: len(served.acceptor.connections) == 1)
            assert statuses(await served.talk(LAST)) == [200]
            held[1][1].close()

    async def test_far_too_many_are_not_even_told(self) -> None:
        limits = replace(QUICK, connections=1, idle_seconds=9, head_seconds=9, overload_seconds=9)
        async with serve(limits) as served:
            held = [await served.connect() for _ in range(2)]
            await eventually(lambda: len(served.acceptor.connections) == 2)
            assert await served.talk() == b""
            for _, writer in held:
                writer.close()

    async def test_stopping_lets_a_request_finish_and_closes_idle_connections(
        self, served: Served
    ) -> None:
        idle, idle_writer = await served.connect()
        asking = asyncio.create_task(served.talk(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n"))
        await eventually(lambda: served.probe.seen)
        stopping = asyncio.create_task(served.acceptor.stop(SECONDS, asyncio.Event()))
        assert await asyncio.wait_for(idle.read(-1), SECONDS) == b""
        with pytest.raises(ConnectionRefusedError):
            await served.connect()
        assert not stopping.done()
        served.probe.gate.set()
        answers = await asking
        assert statuses(answers) == [200]
        assert b"\r\nConnection: close\r\n" in answers
        await asyncio.wait_for(stopping, SECONDS)
        idle_writer.close()

    async def test_stopping_at_once_cuts_requests_off(self, served: Served) -> None:
        asking = asyncio.create_task(served.talk(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n"))
        await eventually(lambda: served.probe.seen)
        at_once = asyncio.Event()
        stopping = asyncio.create_task(served.acceptor.stop(SECONDS, at_once))
        at_once.set()
        await asyncio.wait_for(stopping, 1.0)
        assert await asking == b""

    async def test_slow_heads_of_many_clients_do_not_keep_the_others_waiting(
        self, served: Served
    ) -> None:
        slow = [await served.connect() for _ in range(200)]
        for _, writer in slow:
            writer.write(b"GET / HTTP/1.1\r\nX-Slow:")
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert statuses(await served.talk(LAST)) == [200]
        assert loop.time() - began < 0.25
        for reader, writer in slow:
            assert statuses(await asyncio.wait_for(reader.read(-1), SECONDS)) == [408]
            writer.close()
