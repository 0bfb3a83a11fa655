"""The command ``access explain``: whether somebody may do something, and by which rule."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from dockyard.auth.actions import Action
from dockyard.auth.asker import ANY
from dockyard.auth.policy import GRANTABLE
from dockyard.cli.opening import TreeError, config_option, read_settings
from dockyard.cli.questions import Question
from dockyard.config import Settings
from dockyard.errors import RegistryError
from dockyard.oci.reference import is_name


if TYPE_CHECKING:
    from dockyard.auth.policy import Decision
    from dockyard.auth.verdict import Step, Verdict


@click.group()
def access() -> None:
    """Who may do what, by the rules of the configuration."""


@access.command(cls=Question)
@click.argument("user")
@click.argument("action", type=click.Choice([action.value for action in GRANTABLE]))
@click.argument("repository", required=False)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@config_option
def explain(
    user: str, action: str, repository: str | None, *, as_json: bool, config: Path | None
) -> int:
    """Tell whether USER may do ACTION to REPOSITORY, and which rule decides.

    USER is a user, robot$NAME, key:NAME or anonymous. The action admin is about all repositories at
    once.

    The exit status is 0 if they may, 1 if they may not, and 2 if that can't be told.
    """
    asked = Action(action)
    name = _repository(asked, repository)
    settings = read_settings(config)
    from dockyard.server.verdicts import StrangerError, decide  # noqa: PLC0415 -- mistakes first

    try:
        verdict = asyncio.run(decide(settings, user, asked, name))
    except (StrangerError, RegistryError) as error:
        raise TreeError(str(error)) from error
    if as_json:
        head = {"user": user, "action": action, "repository": name or None}
        click.echo(json.dumps({**head, **_plain(settings, verdict)}, indent=2))
    else:
        may = "allowed" if verdict.allowed else "denied"
        click.echo(f"{may}: {action} by {user} to {name or 'all repositories'}")
        for line in _lines(settings, verdict):
            click.echo(f"  {line}")
    return 0 if verdict.allowed else 1


def _repository(action: Action, name: str | None) -> str:
    """Return the repository that is asked about; empty for all.

    Raises:
        click.UsageError: it is no repository, or the action is not about one.
    """
    if action is Action.ADMIN:
        if name is not None:
            raise click.UsageError("admin is about all repositories at once: leave REPOSITORY out")
        return ""
    if name is None:
        raise click.UsageError(f"say which REPOSITORY the {action.value} is to")
    if not is_name(name):
        raise click.UsageError(
            f"{name!r} is no repository's name, such as team/app (without the registry's address)"
        )
    return name


def _lines(settings: Settings, verdict: "Verdict") -> list[str]:
    if not verdict.steps:
        return [verdict.reason]
    return [f"{_question(step)}: {_answer(settings, step.decision)}" for step in verdict.steps]


def _question(step: "Step") -> str:
    where = {ANY[0]: " (names without a slash)", ANY[1]: " (names with one)"}
    return f"{step.action.value}{where.get(step.repository, '')}"


def _answer(settings: Settings, decision: "Decision") -> str:
    if decision.outside:
        return "denied, since the key is not good for it"
    if decision.rule is None:
        return "denied, since no rule is about it"
    if settings.access is None:
        return "allowed, since there are no rules (access): who logs in may everything"
    effect = "allowed" if decision.allowed else "denied"
    text = yaml.safe_dump(
        _rule(settings, decision), default_flow_style=True, sort_keys=False, width=1 << 16
    )
    return f"{effect} by rule {decision.rule.number}: {text.strip()}"


def _plain(settings: Settings, verdict: "Verdict") -> dict[str, object]:
    steps = [
        {
            "action": step.action.value,
            "repositories": step.repository,
            "allowed": step.decision.allowed,
            "number": _number(settings, step.decision),
            "rule": _rule(settings, step.decision),
            "outsideKey": step.decision.outside,
        }
        for step in verdict.steps
    ]
    return {"allowed": verdict.allowed, "steps": steps, "reason": verdict.reason or None}


def _number(settings: Settings, decision: "Decision") -> int | None:
    return None if decision.rule is None or settings.access is None else decision.rule.number


def _rule(settings: Settings, decision: "Decision") -> dict[str, object] | None:
    """Return the rule that decided as the configuration has it."""
    if decision.rule is None or settings.access is None:
        return None
    written = settings.access.rules[decision.rule.number - 1]
    text: dict[str, object] = {
        "repositories": list(written.repositories),
        "actions": list(written.actions),
        "who": list(written.who),
    }
    return text if written.effect is None else {**text, "effect": written.effect}
