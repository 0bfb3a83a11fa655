import pytest
from hypothesis import given, strategies as st

from dockyard.protocol.conditions import ANY, Accept, parse_tags


IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"a"', {"a"}),
        ("a", {"a"}),
        ('W/"a"', {"a"}),
        ('"a", W/"b" ,c', {"a", "b", "c"}),
        ("*", {ANY}),
        ("", set()),
        (",,", set()),
        ('""', set()),
    ],
)
def test_entity_tags(text: str, expected: set[str]) -> None:
    assert parse_tags(text) == expected


@given(st.sets(st.from_regex(r"[a-z0-9:]{1,20}", fullmatch=True)))
def test_entity_tags_are_read_as_written(tags: set[str]) -> None:
    assert parse_tags(", ".join(f'"{tag}"' for tag in tags)) == tags


@pytest.mark.parametrize(
    ("lines", "allowed"),
    [
        pytest.param([IMAGE], True, id="exactly"),
        pytest.param([INDEX], False, id="another"),
        pytest.param([INDEX, IMAGE], True, id="several-lines"),
        pytest.param([f"{INDEX}, {IMAGE}"], True, id="several-on-one-line"),
        pytest.param([f"{IMAGE};q=0.5"], True, id="low-quality"),
        pytest.param([f"{IMAGE};q=0"], False, id="quality-zero"),
        pytest.param([f"{IMAGE}; Q=0.000"], False, id="quality-zero-spelled-otherwise"),
        pytest.param([f"{IMAGE};q=x"], True, id="quality-malformed"),
        pytest.param([f"{IMAGE};charset=utf-8;level=1"], True, id="other-parameters"),
        pytest.param([IMAGE.upper()], True, id="upper-case"),
        pytest.param(["*/*"], True, id="anything"),
        pytest.param(["application/*"], True, id="any-application"),
        pytest.param(["text/*"], False, id="any-text"),
        pytest.param(["*/*;q=0"], False, id="nothing"),
        pytest.param([f"{IMAGE};q=0, */*"], False, id="anything-but-this"),
        pytest.param([f"{IMAGE}, application/*;q=0"], True, id="this-but-no-other"),
        pytest.param(["application/*;q=0, */*"], False, id="anything-but-applications"),
    ],
)
def test_what_a_client_takes(lines: list[str], *, allowed: bool) -> None:
    accept = Accept(lines)
    assert not accept.is_absent
    assert accept.allows(IMAGE) is allowed


@pytest.mark.parametrize("lines", [[], [""], [" , ;q=1"]], ids=str)
def test_saying_nothing(lines: list[str]) -> None:
    accept = Accept(lines)
    assert accept.is_absent
    assert not accept.allows(IMAGE)


@given(st.lists(st.text()), st.text())
def test_any_header_can_be_read(lines: list[str], media_type: str) -> None:
    assert Accept(lines).allows(media_type) in {True, False}


@given(st.text())
def test_any_condition_can_be_read(text: str) -> None:
    assert "" not in parse_tags(text)
