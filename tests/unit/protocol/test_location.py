from urllib.parse import urlsplit
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from dockyard.protocol.location import UploadState, base_url, parse_upload


IDENTIFIERS = st.uuids().map(str)
IDENTIFIER = str(UUID(int=7))


@given(IDENTIFIERS, st.integers(0, 10**18 - 1), st.sampled_from(["sha256", "sha512"]))
def test_the_state_of_an_upload_round_trips(identifier: str, offset: int, algorithm: str) -> None:
    state = UploadState(identifier, offset, algorithm)
    assert parse_upload(state.render()) == state


@given(IDENTIFIERS)
def test_an_upload_without_offset_round_trips(identifier: str) -> None:
    state = UploadState(identifier)
    assert state.render() == identifier
    assert parse_upload(identifier) == state


def test_the_usual_algorithm_is_left_out() -> None:
    assert UploadState(IDENTIFIER, 5).render() == f"{IDENTIFIER}.5"
    assert UploadState(IDENTIFIER, 5, "sha512").render() == f"{IDENTIFIER}.5.sha512"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        IDENTIFIER.upper().replace("0", "A"),
        f"{IDENTIFIER}0",
        f"{IDENTIFIER}.",
        f"{IDENTIFIER}.-1",
        f"{IDENTIFIER}.x",
        f"{IDENTIFIER}.1.md5",
        f"{IDENTIFIER}.1.sha256.1",
        f"{IDENTIFIER}.sha256",
        f"{IDENTIFIER}.\u0661",
        f"{IDENTIFIER}." + "1" * 19,
        f"{IDENTIFIER}\n",
        f"../{IDENTIFIER[3:]}",
    ],
    ids=ascii,
)
def test_not_the_state_of_an_upload(text: str) -> None:
    assert parse_upload(text) is None


@given(st.text(alphabet="0123456789abcdef-./sh25\n", max_size=60))
def test_a_state_never_names_another_directory(text: str) -> None:
    state = parse_upload(text)
    assert state is None or not set("./\n") & set(state.identifier)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"host": "reg:5000"}, "http://reg:5000", id="host"),
        pytest.param({"host": "[::1]:5000"}, "http://[::1]:5000", id="ipv6"),
        pytest.param({}, "", id="no-host"),
        pytest.param({"host": ""}, "", id="empty-host"),
        pytest.param({"host": "a", "x-forwarded-proto": "https"}, "https://a", id="x-proto"),
        pytest.param({"host": "a", "x-forwarded-host": "b:1"}, "http://b:1", id="x-host"),
        pytest.param(
            {"x-forwarded-proto": "https, http", "x-forwarded-host": "b, c"},
            "https://b",
            id="x-lists",
        ),
        pytest.param(
            {"host": "a", "x-forwarded-proto": " ", "x-forwarded-host": ""},
            "http://a",
            id="x-empty",
        ),
        pytest.param(
            {"host": "a", "forwarded": "for=1.2.3.4;proto=https;host=b"},
            "https://b",
            id="forwarded",
        ),
        pytest.param(
            {"host": "a", "forwarded": 'Proto="https" ; Host="b:1", for=x;host=c'},
            "https://b:1",
            id="forwarded-quoted",
        ),
        pytest.param(
            {"host": "a", "forwarded": "for=1.2.3.4"}, "http://a", id="forwarded-for-only"
        ),
        pytest.param({"host": "a", "forwarded": "host="}, "http://a", id="forwarded-without-value"),
        pytest.param(
            {"host": "a", "forwarded": "proto=https", "x-forwarded-host": "b"},
            "https://a",
            id="forwarded-counts-more",
        ),
        pytest.param({"host": "a", "x-forwarded-proto": "HTTPS"}, "https://a", id="upper-case"),
        pytest.param({"host": "a", "x-forwarded-proto": "javascript"}, "", id="other-scheme"),
        pytest.param({"host": "a/b"}, "", id="host-with-path"),
        pytest.param({"host": "a\r\nX: y"}, "", id="host-with-line-break"),
        pytest.param({"host": "user@a"}, "", id="host-with-user"),
        pytest.param({"host": "a" * 261}, "", id="host-too-long"),
    ],
)
def test_where_the_client_reaches_us(headers: dict[str, str], expected: str) -> None:
    assert base_url(headers.get, "http") == expected


@given(
    st.dictionaries(
        st.sampled_from(["host", "forwarded", "x-forwarded-proto", "x-forwarded-host"]), st.text()
    )
)
def test_what_is_repeated_is_an_address(headers: dict[str, str]) -> None:
    base = base_url(headers.get, "http")
    assert base == "" or base.startswith(("http://", "https://"))
    assert base.isascii()
    assert not set(base) & set('\r\n\t "<>?#@')


def test_the_scheme_of_the_connection_is_where_it_begins() -> None:
    parts = urlsplit(base_url({"host": "a:443"}.get, "https"))
    assert (parts.scheme, parts.netloc) == ("https", "a:443")
