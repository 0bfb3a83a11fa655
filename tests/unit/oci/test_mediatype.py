import pytest
from hypothesis import given, strategies as st

from dockyard.oci import mediatype


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("  Application/JSON ;q=1;x=y", "application/json"),
        (";", ""),
    ],
)
def test_parameters_are_cut_off(text: str, expected: str) -> None:
    assert mediatype.without_parameters(text) == expected


@pytest.mark.parametrize(
    "text",
    sorted(mediatype.IMAGES | mediatype.INDEXES | mediatype.SCHEMA1 | mediatype.NON_DISTRIBUTABLE),
)
def test_the_types_we_know_are_media_types(text: str) -> None:
    assert mediatype.is_media_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a/",
        "/b",
        "a/b/c",
        "a/b;c",
        "a b/c",
        "a/b\r\nX: y",
        "a/\u00e4",
        "*/*",
        "a/" + "b" * 128,
    ],
)
def test_what_can_not_be_sent_as_a_type_is_none(text: str) -> None:
    assert not mediatype.is_media_type(text)


@given(st.text())
def test_a_media_type_fits_into_a_header(text: str) -> None:
    if mediatype.is_media_type(text):
        assert text.isascii()
        assert text.isprintable()
