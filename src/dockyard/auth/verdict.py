"""Why somebody may do something, or may not: each step of the decision, with its rule. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from dockyard.auth.actions import Action, parts
from dockyard.auth.asker import ANY
from dockyard.auth.policy import Decision, Policy
from dockyard.auth.principal import Principal


@dataclass(frozen=True, slots=True)
class Step:
    """One of the questions that a decision is made of.

    Attributes:
        action: what is to be done.
        repository: to what; one of `ANY` stands for all repositories that it is like.
        decision: whether that is allowed, and by which rule.
    """

    action: Action
    repository: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether somebody may do something.

    Attributes:
        allowed: whether they may.
        steps: what the rules say to each question; nothing where there are no rules.
        reason: why, where there are no rules.
    """

    allowed: bool
    steps: Sequence[Step] = ()
    reason: str = ""


def judge(policy: Policy, principal: Principal, action: Action, repository: str) -> Verdict:
    """Return whether `principal` may do `action` to `repository`, or to all if that is empty."""
    names = (repository,) if repository else ANY
    steps = [
        Step(each, name, policy.decide(principal, each, name))
        for each in parts(action)
        for name in names
    ]
    return Verdict(all(step.decision.allowed for step in steps), steps)
