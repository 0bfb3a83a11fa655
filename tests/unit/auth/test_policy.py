import pytest

from dockyard.auth.actions import Action
from dockyard.auth.policy import PatternInvalidError, Policy, Rule, compile_pattern
from dockyard.auth.principal import ANONYMOUS, Kind, Principal, user


ALICE = user("alice", frozenset({"developers"}))
CI = Principal(Kind.ROBOT, "ci")


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/bc", False),
        ("a/b", "xa/b", False),
        ("a.b", "axb", False),
        ("*", "a", True),
        ("*", "a/b", False),
        ("**", "a/b/c", True),
        ("team/**", "team/a/b", True),
        ("team/**", "team", False),
        ("team/**", "teams/a", False),
        ("**/base", "a/b/base", True),
        ("**/base", "base", False),
        ("a/**/z", "a/z", False),
        ("a/**/z", "a/b/c/z", True),
        ("a/*-dev", "a/b-dev-dev", True),
        ("a/*-dev", "a/b-devs", False),
        ("a/x*y*z", "a/xyyz", True),
        ("a/x*y*z", "a/xz", False),
        ("a/*b*", "a/cbd", True),
        ("a/*b*", "a/cd", False),
    ],
)
def test_a_pattern_means_what_is_documented(pattern: str, name: str, *, matches: bool) -> None:
    assert bool(compile_pattern(pattern).fullmatch(name)) is matches


@pytest.mark.parametrize("text", ["", "a//b", "a**", "/a", "a/", "[a]", "a b", "**/**/**/**"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(PatternInvalidError):
        compile_pattern(text)


def rule(number: int, pattern: str, actions: set[Action], who: str, *, allows: bool = True) -> Rule:
    return Rule(number, [compile_pattern(pattern)], frozenset(actions), frozenset({who}), allows)


def test_the_first_rule_that_fits_decides() -> None:
    policy = Policy(
        [
            rule(1, "secret/**", {Action.PULL}, "user:alice"),
            rule(2, "secret/**", {Action.PULL}, "anonymous", allows=False),
            rule(3, "**", {Action.PULL}, "anonymous"),
            rule(4, "**", {Action.PUSH}, "group:developers"),
            rule(5, "ci/*", {Action.PUSH}, "robot:ci"),
            rule(6, "any", {Action.DELETE}, "authenticated"),
        ]
    )

    def number(who: Principal, action: Action, name: str) -> tuple[bool, int | None]:
        decision = policy.decide(who, action, name)
        return decision.allowed, decision.rule.number if decision.rule else None

    assert number(ALICE, Action.PULL, "secret/a") == (True, 1)
    assert number(user("bob"), Action.PULL, "secret/a") == (False, 2)
    assert number(ANONYMOUS, Action.PULL, "a") == (True, 3)
    assert number(ALICE, Action.PULL, "a") == (True, 3)
    assert number(ALICE, Action.PUSH, "a") == (True, 4)
    assert number(ANONYMOUS, Action.PUSH, "a") == (False, None)
    assert number(CI, Action.PUSH, "ci/a") == (True, 5)
    assert number(user("ci"), Action.PUSH, "ci/a") == (False, None)
    assert number(CI, Action.DELETE, "any") == (True, 6)
    assert number(ANONYMOUS, Action.DELETE, "any") == (False, None)
    assert policy.may_ever(ANONYMOUS, Action.PULL)
    assert not policy.may_ever(ANONYMOUS, Action.CATALOG)
