import re

import pytest
from hypothesis import given, strategies as st

from dockyard.errors import NameInvalidError, TagInvalidError
from dockyard.oci.reference import is_name, is_tag, parse_name, parse_tag


WORD = st.text(alphabet="ab0", min_size=1, max_size=5)
SEPARATOR = st.sampled_from(["/", ".", "_", "__", "-", "--", "-----"])
SPEC_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
"""Source: OCI Distribution Spec 1.1, spec.md#pulling-manifests."""


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a/b",
        "a/b/c/d/e/f",
        "a.b_c__d-e---f",
        "0/1",
        "library/debian",
        "registry.example.com/team/app",
        "Registry.Example.com/app",
        "A/b",
        "a" * 255,
        "/".join("a" * 128),
    ],
)
def test_a_name(text: str) -> None:
    assert is_name(text)
    assert parse_name(text) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("A", id="capital"),
        pytest.param("a/B", id="capital-below"),
        pytest.param("/a", id="leading-slash"),
        pytest.param("a/", id="trailing-slash"),
        pytest.param("a//b", id="empty-component"),
        pytest.param("a/../b", id="parent"),
        pytest.param("./a", id="here"),
        pytest.param("_a", id="leading-underscore"),
        pytest.param("a/_layers", id="reserved"),
        pytest.param("a-", id="trailing-dash"),
        pytest.param("a..b", id="two-dots"),
        pytest.param("a___b", id="three-underscores"),
        pytest.param("localhost:5000/a", id="port"),
        pytest.param("a b", id="space"),
        pytest.param("a\n", id="newline"),
        pytest.param("a\0", id="nul"),
        pytest.param("\u00e4", id="umlaut"),
        pytest.param("a" * 256, id="too-long"),
        pytest.param("/".join("a" * 10_000), id="ten-thousand-components"),
        pytest.param("a" * 254 + "-" * 100_000, id="endless-dashes"),
    ],
)
def test_not_a_name(text: str) -> None:
    assert not is_name(text)
    with pytest.raises(NameInvalidError) as caught:
        parse_name(text)
    assert caught.value.text == text


@given(WORD, st.lists(st.tuples(SEPARATOR, WORD), max_size=40))
def test_every_name_of_the_spec_is_one(first: str, rest: list[tuple[str, str]]) -> None:
    text = first + "".join(separator + word for separator, word in rest)
    assert is_name(text) == (len(text) <= 255)


@given(st.from_regex(SPEC_TAG, fullmatch=True))
def test_every_tag_of_the_spec_is_one(text: str) -> None:
    assert parse_tag(text) == text


@pytest.mark.parametrize(
    "text", ["", ".a", "-a", "a" * 129, "a/b", "a:b", "a b", "a\n", "..", "\u00e4"]
)
def test_not_a_tag(text: str) -> None:
    assert not is_tag(text)
    with pytest.raises(TagInvalidError) as caught:
        parse_tag(text)
    assert caught.value.text == text


@given(st.text(alphabet="aZ0._-/:\n \0", max_size=6))
def test_nothing_else_is_a_tag(text: str) -> None:
    assert is_tag(text) == (re.fullmatch(SPEC_TAG, text) is not None)


@given(st.text(alphabet="aA0._-/:\n \0", max_size=8))
def test_a_name_never_leaves_its_directory(text: str) -> None:
    if is_name(text):
        components = text.split("/")
        assert not {"", ".", ".."} & set(components)
        assert not any(component.startswith(("_", ".")) for component in components)
