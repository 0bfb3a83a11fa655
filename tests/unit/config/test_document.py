import json
import time

import pytest
from hypothesis import given, settings, strategies as st

from dockyard.config.document import parse
from dockyard.config.nodes import MappingNode, Node, ScalarNode, SequenceNode, descend
from dockyard.config.problems import ConfigurationError
from dockyard.config.scalars import to_free


def plain(text: str) -> object:
    return to_free(parse(text).root)


def refusal(text: str, variable: str | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, variable=variable)
    (problem,) = caught.value.problems
    return str(problem)


def at(root: Node | None, *path: str) -> Node:
    node = descend(root, path)
    assert node is not None
    return node


def test_values_know_their_line() -> None:
    root = parse("a: 1\nb:\n  c:\n    - x\n").root
    assert isinstance(root, MappingNode)
    assert root.lines == {"a": 1, "b": 2}
    assert at(root, "b", "c").origin.line == 4


def test_values_keep_their_text() -> None:
    root = parse("a: 0.10\nb: 0x1F\nc: '5'\nd: !!int '5'\n").root
    assert [(node.text, node.plain) for node in root.items.values()] == [  # type: ignore[union-attr]
        ("0.10", True),
        ("0x1F", True),
        ("5", False),
        ("5", True),
    ]


def test_an_alias_is_written_out_so_that_one_copy_can_change() -> None:
    root = parse("a: &x {k: [1, {z: 2}]}\nb: *x\n").root
    first, second = at(root, "a"), at(root, "b")
    assert to_free(first) == to_free(second)
    assert isinstance(first, MappingNode)
    first.items.clear()
    assert to_free(second) == {"k": [1, {"z": 2}]}


def test_merged_mappings_give_way_to_what_is_written() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: {<<: *b}\n"
    merged = plain(text)
    assert isinstance(merged, dict)
    assert merged["c"] == {"x": 3, "y": 1, "z": 2}
    assert merged["d"] == {"y": 2, "z": 2}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1\n", "line 2: not valid YAML at line 2, column 1: expected"),
        ("a: 1\na: 2\n", "line 2: a: is set twice; the first time in line 1"),
        ("b:\n  a: 1\n  a: 2\n", "line 3: b.a: is set twice; the first time in line 2"),
        ("[a]: 1\n", "line 1: a key must be text"),
        ("{a: 1}: 1\n", "line 1: a key must be text"),
        ("b: {~: 1}\n", "line 1: b: a key must be text"),
        ("a: *secret\n", "an alias stands for nothing"),
        ("a: &a [*a]\n", "an alias stands for nothing"),
        ("a: {<<: 1}\n", "a.<<: '<<' takes a mapping"),
        ("a: {<<: [1]}\n", "a.<<: '<<' takes a mapping"),
        ("a: \x00\n", "character number 4 is not allowed"),
        ("a: \x1b\n", "character number 4 is not allowed"),
        ('a: "\\Uffffffff"\n', "not valid YAML"),
        ('a: "\\ud800"\n', "line 1: a: an escape stands for half a character"),
        ("a: !x!secret 1\n", "not valid YAML"),
        ("%YAML 2.0\n---\na: 1\n", "not valid YAML"),
        ("a: 'x\n", "not valid YAML"),
        ("\tb: 1\n", "not valid YAML"),
        ("a: b: c\n", "line 1: not valid YAML at line 1, column 5: mapping values"),
    ],
)
def test_bad_yaml_is_refused_by_place(text: str, reason: str) -> None:
    message = refusal(text)
    assert reason in message
    assert "secret" not in message


def test_a_variable_is_named_instead_of_a_line() -> None:
    assert refusal("[", "REGISTRY_A").startswith(
        "environment variable REGISTRY_A: not valid YAML at column 2"
    )
    assert (
        refusal("{a: 1, a: 2}", "REGISTRY_A") == "environment variable REGISTRY_A: a: is set twice"
    )


def test_aliases_of_aliases_are_refused_at_once() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    begin = time.monotonic()
    assert "more than 20000 values" in refusal(bomb)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 10_000, id="sequences"),
        pytest.param("{a: " * 10_000, id="mappings"),
        pytest.param("- " * 10_000, id="blocks"),
        pytest.param(
            "- &a " + "[" * 40 + "]" * 40 + "\n- &b " + "[" * 40 + "*a" + "]" * 40, id="aliases"
        ),
    ],
)
def test_depth_is_bounded(text: str) -> None:
    assert "nested more than 64 levels deep" in refusal(text)


def test_only_the_first_document_is_read() -> None:
    document = parse("a: 1\n---\nb: 2\n")
    assert to_free(document.root) == {"a": 1}
    assert document.further == 2
    assert parse("a: 1\n...\n").further is None


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_text_says_nothing(text: str) -> None:
    assert parse(text).root is None


WORDS = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]))


@settings(deadline=None)  # the machine may be busy
@given(
    st.recursive(
        WORDS | st.booleans() | st.none() | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
        max_leaves=20,
    )
)
def test_json_is_read_as_json(value: object) -> None:
    assert _matches(parse(json.dumps(value, ensure_ascii=False)).root, value)


def _matches(node: Node | None, value: object) -> bool:
    match node:
        case MappingNode():
            return isinstance(value, dict) and all(
                _matches(node.items[key], item) for key, item in value.items()
            )
        case SequenceNode():
            return isinstance(value, list) and all(map(_matches, node.items, value))
        case ScalarNode():
            return node.text == value if isinstance(value, str) else node.plain
        case None:
            return value is None


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    outcome: object
    try:
        outcome = parse(text)
    except ConfigurationError as error:
        outcome = error.problems
    assert outcome
