"""What somebody whom the rules are about may do."""

import pytest

from dockyard.auth.actions import Action
from dockyard.auth.asker import Ruled
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
