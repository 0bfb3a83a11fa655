import pytest

from dockyard.http.messages import Message, QueryInvalidError, Request, Scope


def request(query: bytes = b"", *headers: tuple[bytes, bytes]) -> Request:
    scope: Scope = {
        "method": "GET",
        "path": "/v2/",
        "scheme": "https",
        "query_string": query,
        "headers": list(headers),
    }

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    return Request(scope, receive, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0", 0),
        (b"0042", 42),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b"1 ", None),
        (b"1_0", None),
        ("\u00b2".encode("latin-1"), None),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 5000, None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_length_is_a_number_or_not_known(text: bytes, expected: int | None) -> None:
    assert request(b"", (b"content-length", text)).content_length == expected


def test_there_may_be_no_length() -> None:
    assert request().content_length is None


def test_of_a_header_sent_twice_the_first_counts_unless_it_is_a_list() -> None:
    sent = request(b"", (b"accept", b"a"), (b"host", b"h"), (b"accept", b"b, c"))
    assert sent.header("accept") == "a"
    assert sent.headers("accept") == ["a", "b, c"]
    assert sent.listed("accept") == "a, b, c"
    assert sent.header("range") is None
    assert sent.headers("range") == []
    assert sent.listed("range") is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", []),
        (b"tag=a", ["a"]),
        (b"tag=a&x=1&tag=b", ["a", "b"]),
        (b"tag=", [""]),
        (b"tag", [""]),
        (b"tag=a%2Fb+c", ["a/b c"]),
        (b"tag=%C3%A4", ["\u00e4"]),
        (b"tag=%FF", ["\ufffd"]),
        (b"tag=%zz", ["%zz"]),
        (b"TAG=a;tag=b", []),
    ],
)
def test_fields_of_the_query(query: bytes, expected: list[str]) -> None:
    sent = request(query)
    assert sent.queries("tag") == expected
    assert sent.query("tag") == (expected[0] if expected else None)


def test_a_query_may_have_only_so_many_fields() -> None:
    assert request(b"&".join([b"tag=a"] * 512)).query("tag") == "a"
    with pytest.raises(QueryInvalidError, match="512"):
        request(b"&".join([b"tag=a"] * 513)).query("tag")


def test_the_base_of_addresses_is_the_clients_view() -> None:
    assert request(b"", (b"host", b"reg:5000")).base_url == "https://reg:5000"
    assert request().base_url == ""
