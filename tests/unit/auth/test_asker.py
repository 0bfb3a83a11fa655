"""What somebody whom the rules are about may do."""

import pytest

from dockyard.auth.actions import CATALOG, Access, Action
from dockyard.auth.asker import Granted, Ruled, Unbounded
from dockyard.auth.policy import Policy, Rule, compile_pattern
from dockyard.auth.principal import user


def asker(*patterns: str) -> Ruled:
    rule = Rule(
        number=1,
        repositories=tuple(compile_pattern(pattern) for pattern in patterns),
        actions=frozenset({Action.ADMIN}),
        who=frozenset({"user:ops"}),
        allows=True,
    )
    return Ruled(user("ops"), Policy([rule]))


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        (["**"], True),
        (["team/**"], False),
        (["*"], False),
        (["*/**"], False),
        (["*", "*/**"], True),
    ],
)
def test_what_names_no_repository_needs_a_rule_for_all(
    patterns: list[str], *, allowed: bool
) -> None:
    assert asker(*patterns).allowed(Action.ADMIN, "") is allowed


def test_others_may_nothing() -> None:
    assert not Ruled(user("dev"), asker("**").policy).allowed(Action.ADMIN, "")


def test_users_without_rules_may_everything_and_see_all() -> None:
    everything = Unbounded(user("alice"))
    assert everything.may_everything
    assert all(everything.may(action, "a/b") for action in Action)
    assert everything.sees("a/b")


@pytest.mark.parametrize(
    ("action", "name", "may"),
    [
        (Action.PULL, "a/b", True),
        (Action.PUSH, "a/b", False),
        (Action.DELETE, "a/b", False),
        (Action.PULL, "a/c", False),
        (Action.CATALOG, "a/c", True),
        (Action.BASE, "", True),
    ],
)
def test_a_token_from_outside_is_good_for_what_it_says(
    action: Action, name: str, *, may: bool
) -> None:
    bearer = Granted(user("alice"), frozenset({Access("repository", "a/b", "pull"), CATALOG}))
    assert not bearer.may_everything
    assert bearer.may(action, name) is may
    assert bearer.sees(name)  # the catalog is granted whole, or not at all


def test_a_token_of_ours_is_good_for_no_more_than_the_rules() -> None:
    policy = asker("**").policy
    grants = frozenset({Access("repository", "a", "pull")})
    assert not Ruled(user("ops"), policy, grants).may(Action.ADMIN, "a")  # not in the token
    assert not Ruled(user("ops"), policy, grants).may(Action.PULL, "a")  # in no rule
    assert Ruled(user("ops"), policy).may(Action.ADMIN, "a")
