from http import HTTPStatus

import pytest
from hypothesis import given, strategies as st

from dockyard.server.head import (
    BodyForm,
    Framing,
    RefusedError,
    Target,
    check_text,
    framing_of,
    parse_target,
    refusal_of_incomplete,
)
from dockyard.server.limits import ConnectionLimits


LIMITS = ConnectionLimits()
HOST = (b"host", b"registry:5000")

TOKENS = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,20}", fullmatch=True)
VALUES = st.from_regex(rb"[\t\x20-\x7e\x80-\xff]{0,40}", fullmatch=True)
HEADS = st.builds(
    lambda method, target, fields: (
        b"%b /%b HTTP/1.1\r\n%b\r\n"
        % (method, target, b"".join(b"%b:%b\r\n" % field for field in fields))
    ),
    st.from_regex(rb"[A-Z]{1,10}", fullmatch=True),
    st.from_regex(rb"[\x21\x22\x24-\x7e]{0,60}", fullmatch=True),
    st.lists(st.tuples(TOKENS, VALUES), max_size=8),
)


def status_of(head: bytes) -> int:
    try:
        check_text(head, LIMITS)
    except RefusedError as refused:
        return refused.status
    return 200


class TestText:
    @given(HEADS)
    def test_what_the_grammar_writes_is_accepted(self, head: bytes) -> None:
        check_text(head, LIMITS)

    @given(HEADS, st.data())
    def test_a_control_character_anywhere_is_refused(
        self, head: bytes, data: st.DataObject
    ) -> None:
        position = data.draw(st.integers(0, len(head) - 4))
        control = data.draw(st.sampled_from([b"\0", b"\n", b"\r", b"\x0b", b"\x7f", b"\x1b"]))
        with pytest.raises(RefusedError) as refused:
            check_text(head[:position] + control + head[position:], LIMITS)
        assert refused.value.status in {
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
        }

    @given(HEADS)
    def test_no_beginning_of_a_legal_head_is_refused(self, head: bytes) -> None:
        for end in range(len(head)):
            assert refusal_of_incomplete(head[:end], LIMITS) is None

    @given(st.binary(max_size=300))
    def test_whatever_the_bytes_the_answer_is_yes_or_a_client_s_fault(self, head: bytes) -> None:
        assert status_of(head) in {200, *range(400, 506)}

    def test_the_reason_repeats_nothing_of_the_request(self) -> None:
        with pytest.raises(RefusedError) as refused:
            check_text(b"GET /<script> HTTP/1.1\r\nHost : a\r\n\r\n", LIMITS)
        assert "script" not in refused.value.reason


class TestFraming:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            pytest.param([], Framing(), id="none"),
            pytest.param([(b"content-length", b"0")], Framing(), id="empty"),
            pytest.param([(b"content-length", b"007")], Framing(BodyForm.LENGTH, 7), id="zeros"),
            pytest.param(
                [(b"transfer-encoding", b"Chunked")], Framing(BodyForm.CHUNKED), id="chunked"
            ),
            pytest.param(
                [(b"content-length", b"3"), (b"expect", b"100-CONTINUE")],
                Framing(BodyForm.LENGTH, 3, expects_continue=True),
                id="expect",
            ),
        ],
    )
    def test_bodies_end_where_the_head_says(
        self, fields: list[tuple[bytes, bytes]], expected: Framing
    ) -> None:
        assert framing_of([HOST, *fields], "1.1") == expected

    @pytest.mark.parametrize(
        ("fields", "version"),
        [
            ([(b"content-length", b"3"), (b"transfer-encoding", b"chunked")], "1.1"),
            ([(b"transfer-encoding", b"chunked")], "1.0"),
            ([(b"transfer-encoding", b"chunked, chunked")], "1.1"),
            ([(b"content-length", b"3"), (b"content-length", b"3")], "1.1"),
            ([(b"content-length", b"+3")], "1.1"),
            ([(b"content-length", b"")], "1.1"),
            ([(b"content-length", b"9" * 19)], "1.1"),
            ([(b"expect", b"tea")], "1.1"),
        ],
    )
    def test_what_could_be_read_in_two_ways_is_refused(
        self, fields: list[tuple[bytes, bytes]], version: str
    ) -> None:
        with pytest.raises(RefusedError):
            framing_of([HOST, *fields], version)

    def test_http_1_0_does_not_wait_for_continue(self) -> None:
        fields = [(b"content-length", b"3"), (b"expect", b"100-continue")]
        assert framing_of(fields, "1.0") == Framing(BodyForm.LENGTH, 3)

    @pytest.mark.parametrize(
        "host",
        [
            *(b"a", b"a.b-c:5000", b"127.0.0.1:1", b"[::1]:5000", b"[fe80::1%eth0]", b"a:", b"A_b"),
        ],
    )
    def test_hosts_of_real_life_are_accepted(self, host: bytes) -> None:
        framing_of([(b"host", host)], "1.1")

    @pytest.mark.parametrize(
        "host", [b"", b"a b", b"a/b", b"a,b", b"u@a", b"[::1", b"a:x", b"a:123456", b"\xff", b"a?b"]
    )
    def test_other_hosts_are_refused(self, host: bytes) -> None:
        with pytest.raises(RefusedError):
            framing_of([(b"host", host)], "1.1")


class TestTarget:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (b"/", Target(b"/", b"")),
            (b"/v2/a%2Fb?n=1&last=x?y", Target(b"/v2/a%2Fb", b"n=1&last=x?y")),
            (b"//a/b", Target(b"//a/b", b"")),
            (b"http://h", Target(b"/", b"", b"h")),
            (b"HTTPS://h:1?q", Target(b"/", b"q", b"h:1")),
            (b"http://h/p?q", Target(b"/p", b"q", b"h")),
        ],
    )
    def test_targets_are_read_in_one_way(self, text: bytes, expected: Target) -> None:
        assert parse_target(text) == expected

    @pytest.mark.parametrize("text", [b"*", b"h:1", b"v2/", b"http://", b"file:///x", b"http:/x"])
    def test_other_forms_are_refused(self, text: bytes) -> None:
        with pytest.raises(RefusedError):
            parse_target(text)
