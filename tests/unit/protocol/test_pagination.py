from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, strategies as st

from dockyard.errors import PageSizeInvalidError
from dockyard.protocol.pagination import parse_size, render_next


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("", None), ("0", 0), ("1", 1), ("007", 7)], ids=str
)
def test_a_page_size(text: str | None, expected: int | None) -> None:
    assert parse_size(text) == expected


@given(st.integers(0, 10**18 - 1))
def test_a_page_size_is_read_as_written(size: int) -> None:
    assert parse_size(str(size)) == size


@pytest.mark.parametrize(
    "text",
    ["-1", "+1", "1.0", "abc", " 1", "1 ", "1e3", "0x1", "1_0", "\u0661", "\u00b2", "9" * 19],
)
def test_not_a_page_size(text: str) -> None:
    with pytest.raises(PageSizeInvalidError) as caught:
        parse_size(text)
    assert caught.value.asked == text


@given(st.text())
def test_a_page_size_fails_only_as_stated(text: str) -> None:
    try:
        size = parse_size(text)
    except PageSizeInvalidError:
        return
    assert size is None or size >= 0


def test_the_next_page_is_where_distribution_says() -> None:
    link = render_next("/v2/_catalog", [("last", "conformance/repo1"), ("n", "1")])
    assert link == '</v2/_catalog?last=conformance%2Frepo1&n=1>; rel="next"'


@given(st.lists(st.tuples(st.sampled_from(["last", "n", "artifactType"]), st.text(min_size=1))))
def test_the_link_gives_the_parameters_back(parameters: list[tuple[str, str]]) -> None:
    link = render_next("/v2/a/tags/list", parameters)
    target = link.removeprefix("<").removesuffix('>; rel="next"')
    assert link.isascii()
    assert parse_qsl(urlsplit(target).query) == parameters


def test_a_name_that_is_no_text_can_be_linked_to() -> None:
    assert render_next("/", [("last", b"\xff".decode("utf-8", "surrogateescape"))]) == (
        '</?last=%FF>; rel="next"'
    )
