from pathlib import Path

import pytest

from dockyard.config import ConfigurationError, Finding, FindingKind, Problem


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("a.b", "wrong"), "a.b: wrong"),
        (Problem("", "wrong"), "wrong"),
        (Problem("a", "wrong", line=3), "line 3: a: wrong"),
        (Problem("a", "wrong", line=3, path=Path("/c.yml")), "/c.yml:3: a: wrong"),
        (Problem("a", "wrong", path=Path("/c.yml")), "/c.yml: a: wrong"),
        (Problem("a", "wrong", variable="REGISTRY_A"), "environment variable REGISTRY_A: a: wrong"),
    ],
)
def test_a_problem_says_where_it_is(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_an_error_is_one_line_for_each_problem() -> None:
    error = ConfigurationError([Problem("a", "x"), Problem("b", "y")])
    assert str(error) == "a: x\nb: y"
    assert error.findings == ()


def test_a_finding_says_its_line() -> None:
    assert str(Finding(FindingKind.UNKNOWN, "a", 2, "odd")) == "line 2: odd"
    assert str(Finding(FindingKind.UNKNOWN, "a", None, "odd")) == "odd"
