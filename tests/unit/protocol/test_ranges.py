import pytest
from hypothesis import given, strategies as st

from dockyard.errors import RangeInvalidError
from dockyard.protocol.ranges import parse_chunk, parse_download, render_progress


@given(st.integers(min_value=1, max_value=10**18 - 1))
def test_progress_reads_back_as_a_chunk(received: int) -> None:
    assert parse_chunk(render_progress(received)) == range(received)


def test_no_bytes_yet_is_still_a_valid_range() -> None:
    assert render_progress(0) == "0-0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-0", range(1)),
        ("5-9", range(5, 10)),
        ("bytes 5-9/100", range(5, 10)),
        ("bytes 5-9/*", range(5, 10)),
        ("bytes=5-9", range(5, 10)),
        ("05-009", range(5, 10)),
        ("0-999999999999999999", range(10**18)),
    ],
)
def test_a_chunk_in_each_dialect(text: str, expected: range) -> None:
    assert parse_chunk(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "5-4",
        "-1-2",
        "0-1 ",
        " 0-1",
        "0-1\n",
        "a-b",
        "0-1/",
        "items 0-1",
        "0--1",
        "0-1,3-4",
        "1" * 19 + "-" + "2" * 19,
        "\u0660-\u0661",
        "\u00b9-\u00b2",
    ],
    ids=ascii,
)
def test_parse_chunk_refuses(text: str) -> None:
    with pytest.raises(RangeInvalidError) as caught:
        parse_chunk(text)
    assert caught.value.text == text


@given(st.text(alphabet="0123456789-/*= bytesitm,\n\u0660"))
def test_parse_chunk_fails_only_as_stated(text: str) -> None:
    try:
        chunk = parse_chunk(text)
    except RangeInvalidError:
        return
    assert 0 <= chunk.start < chunk.stop


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(None, None, id="no-header"),
        pytest.param("bytes=0-0", range(1), id="first-byte"),
        pytest.param("bytes=2-5", range(2, 6), id="middle"),
        pytest.param("bytes=2-", range(2, 10), id="from"),
        pytest.param("bytes=-3", range(7, 10), id="last-three"),
        pytest.param("bytes=-30", range(10), id="more-than-there-is-from-the-end"),
        pytest.param("bytes=5-100", range(5, 10), id="clipped"),
        pytest.param("bytes= 2-5\t", range(2, 6), id="spaces"),
        pytest.param("bytes=10-", range(0), id="behind-the-end"),
        pytest.param("bytes=50-60", range(0), id="far-behind-the-end"),
        pytest.param("bytes=5-0", range(0), id="backwards"),
        pytest.param("bytes=-0", range(0), id="last-zero"),
        pytest.param("bytes=-", None, id="nothing"),
        pytest.param("bytes=0-1,3-4", None, id="two-ranges"),
        pytest.param("items=0-1", None, id="other-unit"),
        pytest.param("bytes 0-1", None, id="other-grammar"),
        pytest.param("bytes=a-b", None, id="letters"),
        pytest.param("bytes=" + "9" * 19 + "-", None, id="absurd"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_download_of_ten_bytes(text: str | None, expected: range | None) -> None:
    wanted = parse_download(text, 10)
    if expected == range(0):
        assert wanted is not None
        assert not wanted
    else:
        assert wanted == expected


@pytest.mark.parametrize("text", ["bytes=0-", "bytes=0-0", "bytes=-5"])
def test_nothing_can_be_had_of_nothing(text: str) -> None:
    wanted = parse_download(text, 0)
    assert wanted is not None
    assert not wanted


@given(st.integers(0, 20), st.integers(0, 25), st.integers(0, 25))
def test_a_download_is_what_slicing_gives(size: int, first: int, last: int) -> None:
    content = bytes(range(size))
    for text, expected in (
        (f"bytes={first}-{last}", content[first : last + 1]),
        (f"bytes={first}-", content[first:]),
        (f"bytes=-{last}", content[-last:] if last else b""),
    ):
        wanted = parse_download(text, size)
        assert wanted is not None
        assert content[wanted.start : wanted.stop] == expected


@given(st.text(alphabet="0123456789-= bytes,\n\u0660"), st.integers(0, 100))
def test_a_download_stays_within_the_content(text: str, size: int) -> None:
    wanted = parse_download(text, size)
    assert not wanted or 0 <= wanted.start < wanted.stop <= size
