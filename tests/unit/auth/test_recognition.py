"""Who somebody is for whom others vouch."""

import re
import time

import pytest
from hypothesis import given, strategies as st

from dockyard.auth.principal import Kind, Principal
from dockyard.auth.recognition import Facts, NameTemplate, Recognition, TextPattern, recognise


def recognition(template: str, **patterns: str) -> Recognition:
    conditions = {name: [TextPattern(text, "/:")] for name, text in patterns.items()}
    return Recognition(conditions, NameTemplate(template))


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("a", "", False),
        ("*", "", True),
        ("*", "abc", True),
        ("*", "a/b", False),
        ("*", "a:b", False),
        ("**", "a/b:c", True),
        ("a*c", "abbc", True),
        ("a*c", "ac", True),
        ("a*c", "acb", False),
        ("*a*", "bab", True),
        ("repo:octo/*:ref:refs/heads/main", "repo:octo/app:ref:refs/heads/main", True),
        ("repo:octo/*:ref:refs/heads/main", "repo:octo/a/b:ref:refs/heads/main", False),
        ("repo:octo/*:ref:refs/heads/main", "repo:octo/a:x:ref:refs/heads/main", False),
        ("repo:octo/**", "repo:octo/a:environment:x", True),
        ("repo:octo/**", "repo:octopus/a", False),
        ("a.b", "axb", False),
        ("a[b]", "ab", False),
        ("a\\*", "ab", False),
        ("a", "a\n", False),
        ("*", "x" * 1025, False),
    ],
)
def test_a_pattern_matches_whole_texts(pattern: str, text: str, *, matches: bool) -> None:
    assert TextPattern(pattern, "/:").matches(text) is matches


@given(st.text("a*/", max_size=8).filter(lambda text: "***" not in text), st.text("a/", max_size=8))
def test_a_pattern_means_what_its_regular_expression_does(pattern: str, text: str) -> None:
    parts = {"**": ".*", "*": "[^/]*"}
    expression = "".join(parts.get(part, part) for part in re.findall(r"\*\*|.", pattern))
    assert TextPattern(pattern, "/").matches(text) is (re.fullmatch(expression, text) is not None)


def test_no_pattern_takes_long() -> None:
    began = time.monotonic()
    assert not TextPattern("*a**" * 60 + "b", "/").matches("a" * 1024)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("template", "facts", "name"),
    [
        ("alice", {}, "user alice"),
        ("user:alice", {}, "user alice"),
        ("robot:ci", {}, "robot ci"),
        ("ci:{repository}", {"repository": "octo/app"}, "user ci:octo/app"),
        ("robot:ci:{repository}", {"repository": "octo/app"}, "robot ci:octo/app"),
        ("{a}/{b}", {"a": "x", "b": "y"}, "user x/y"),
        ("{a}/{b}", {"a": "x/z", "b": "y"}, None),  # else x/z and y would be x and z/y
        ("{a}/{b}", {"a": "x", "b": "y/z"}, None),
        ("ci:{a}", {"a": "x:y/z"}, "user ci:x:y/z"),
        ("ci:{a}", {}, None),
        ("ci:{a}", {"a": ""}, None),
        ("ci:{a}", {"a": "{b}", "b": "x"}, None),
        ("ci:{a}", {"a": "robot$ci"}, None),
        ("ci:{a}", {"a": "x y"}, None),
        ("ci:{a}", {"a": "x\n"}, None),
        ("ci:{a}", {"a": "x\0"}, None),
        ("ci:{a}", {"a": "\u0430lice"}, None),
        ("ci:{a}", {"a": "/../admin"}, None),
        ("ci:{a}", {"a": "x" * 256}, None),
        ("{a}", {"a": "user:alice"}, "user user:alice"),
    ],
)
def test_a_name_is_made_of_what_is_proved(
    template: str, facts: dict[str, str], name: str | None
) -> None:
    found = NameTemplate(template).render(facts, frozenset())
    assert (found and f"{found.kind.value} {found.name}") == name


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"a": ["x"], "b": ["y"]}, "first:x"),
        ({"a": ["z", "x"], "b": ["y"]}, "first:x"),  # the value that fits is the name's
        ({"a": ["x"]}, "second:x"),
        ({"a": ["x", "y"]}, None),  # which of two is meant nobody knows
        ({"a": ["not safe"]}, None),  # and nobody else is tried
        ({}, None),
    ],
)
def test_the_first_that_fits_decides(facts: Facts, name: str | None) -> None:
    found = recognise(
        [
            recognition("first:{a}", a="x", b="*"),
            Recognition({}, NameTemplate("second:{a}")),
            recognition("third", a="**"),
        ],
        facts,
    )
    assert (found and found.name) == name


def test_users_are_in_the_groups_of_their_name_too_and_robots_are_not() -> None:
    members = {"alice": frozenset({"developers"})}
    for kind, groups in (("user", {"tls", "developers"}), ("robot", {"tls"})):
        found = Recognition({}, NameTemplate(f"{kind}:alice"), frozenset({"tls"}), members)
        assert found.principal({}) == Principal(Kind(kind), "alice", frozenset(groups))
