"""What API keys are good for."""

import pytest
from hypothesis import given, strategies as st

from dockyard.auth.actions import Action
from dockyard.auth.apikeys import check_actions, check_name, check_patterns, scope_of
from dockyard.auth.asker import ANY, Ruled
from dockyard.auth.policy import GRANTABLE, OPEN, Policy, Rule, compile_pattern
from dockyard.auth.principal import Principal, user


NAMES = ("a", "team/a", "team/a/b", "other/a")
ACTIONS = st.sampled_from(GRANTABLE)
PATTERNS = st.lists(
    st.sampled_from(["**", "*", "team/*", "team/**", "*/a"]), min_size=1, max_size=3
)


def rules() -> st.SearchStrategy[Policy]:
    rule = st.builds(
        lambda patterns, actions, who, allows: Rule(
            number=1,
            repositories=tuple(compile_pattern(pattern) for pattern in patterns),
            actions=frozenset(actions),
            who=frozenset({who}),
            allows=allows,
        ),
        PATTERNS,
        st.sets(ACTIONS, min_size=1),
        st.sampled_from(["anonymous", "authenticated", "user:alice", "user:bob"]),
        st.booleans(),
    )
    return st.builds(Policy, st.lists(rule, max_size=5))


def keyed(actions: set[Action], patterns: list[str]) -> Principal:
    words = [action.value for action in actions]
    return Principal(user("alice").kind, "alice", scope=scope_of("1", "key", words, patterns))


@given(rules(), st.sets(ACTIONS, min_size=1), PATTERNS)
def test_a_key_allows_what_both_its_scope_and_the_rules_allow(
    policy: Policy, actions: set[Action], patterns: list[str]
) -> None:
    alice, with_key = user("alice"), keyed(actions, patterns)
    assert with_key.scope is not None
    for action in GRANTABLE:
        for name in (*NAMES, *ANY):
            covered = with_key.scope.covers(action, name)
            assert policy.may(with_key, action, name) is (
                covered and policy.may(alice, action, name)
            )
            assert policy.decide(with_key, action, name).outside is not covered
        if policy.may_ever(with_key, action):
            assert policy.may_ever(alice, action)
            assert action in actions


@given(rules(), st.sets(ACTIONS, min_size=1), PATTERNS, ACTIONS, st.sampled_from(["", *NAMES]))
def test_a_request_with_a_key_is_never_allowed_more(
    policy: Policy, actions: set[Action], patterns: list[str], action: Action, name: str
) -> None:
    if Ruled(keyed(actions, patterns), policy).allowed(action, name):
        assert Ruled(user("alice"), policy).allowed(action, name)


def test_where_there_are_no_rules_the_scope_alone_decides() -> None:
    scoped = Ruled(keyed({Action.PULL}, ["team/*"]), OPEN)
    assert scoped.allowed(Action.PULL, "team/a")
    assert not scoped.allowed(Action.PULL, "a")
    assert not scoped.allowed(Action.PUSH, "team/a")
    assert not scoped.allowed(Action.PULL, "")


@pytest.mark.parametrize("name", ["a", "0", "a.b_c-d", "x" * 64])
def test_names_that_can_be(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "A", ".a", "-a", "a/b", "a b", "a\n", "é", "x" * 65, ".."])
def test_names_that_can_not(name: str) -> None:
    with pytest.raises(ValueError, match="can't be a key's name"):
        check_name(name)


@pytest.mark.parametrize("actions", [["*"], ["pull"], ["push", "pull"], ["delete"], ["admin"]])
def test_actions_that_can_be(actions: list[str]) -> None:
    check_actions(actions)


@pytest.mark.parametrize("actions", [[], ["push"], ["catalog"], ["fly"], [""]])
def test_actions_that_can_not(actions: list[str]) -> None:
    with pytest.raises(ValueError, match="actions: "):
        check_actions(actions)


@pytest.mark.parametrize("patterns", [[], ["a"] * 33, [""], ["a//b"], ["**/**/**/**"], ["a" * 256]])
def test_patterns_that_can_not_be(patterns: list[str]) -> None:
    with pytest.raises(ValueError, match="repositories: "):
        check_patterns(patterns)
