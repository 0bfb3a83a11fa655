"""The command ``explain``: what keeps a blob or a manifest, or the rule by which it goes."""

import json
from collections.abc import Awaitable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dockyard.cli.inspecting import doubts_json, human, look, tell_doubts
from dockyard.config import Settings
from dockyard.errors import DigestInvalidError
from dockyard.oci.digest import Digest


if TYPE_CHECKING:
    from dockyard.core.explanation import Chain, Explanation, Keeper


ROLES: Final = {
    "manifest": "itself a manifest",
    "config": "configuration of",
    "layer": "layer of",
    "child": "listed by index",
}

RULES: Final = {
    "kept": "kept",
    "untagged": "untagged manifest: goes with --delete-untagged",
    "leased": "no manifest needs it: goes with the first collection after the leases expired",
    "removed": "goes with a collection once what was removed is emptied from the trash",
    "unneeded": "no manifest needs it: the next collection takes it",
    "collected": "a collection took it: it is in the trash until that is emptied",
    "unknown": "no such blob",
}
"""What becomes of the blob, by verdict."""


@click.command("explain")
@click.argument("digest")
@click.option(
    "--config", type=click.Path(path_type=Path), help="the configuration; found as by `serve`"
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def explain(digest: str, config: Path | None, *, as_json: bool) -> int:
    """Tell what keeps the blob or manifest DIGEST, or the rule by which it goes.

    Nothing is changed; servers may go on meanwhile.

    The exit status is 1 if there is no such blob, or something can't be read.
    """
    try:
        parsed = Digest.parse(digest)
    except DigestInvalidError as error:
        raise click.ClickException(str(error)) from error

    def inquire(settings: Settings) -> "Awaitable[Explanation]":
        from dockyard.server import inspection  # noqa: PLC0415 -- mistakes are told first

        return inspection.inquire(settings, parsed)

    explanation = look(config, inquire)
    is_known = explanation.verdict.value != "unknown"
    if as_json:
        click.echo(render_json(explanation))
    else:
        for line in render(explanation):
            click.echo(line, err=not is_known)
    status = tell_doubts(explanation.doubts, is_partial=explanation.is_partial)
    return status if is_known else 1


def render(explanation: "Explanation") -> Iterator[str]:
    """Yield the lines that a person reads: what keeps the blob, then what becomes of it."""
    yield f"{explanation.digest}: {_place(explanation)}"
    for keeper in explanation.keepers:
        yield f"  {_keeper(keeper)}"
    for holder in explanation.in_doubt:
        place = holder.name if holder.item is None else f"{holder.name} (trash {holder.item})"
        yield f"  in doubt: {place} has a link to it, and something that can't be read"
    for lease in explanation.leases:
        name = lease.repository or "a repository that can't be read"
        until = "for up to an hour" if lease.expires is None else f"until {_time(lease.expires)}"
        yield f"  told to a client of {name}, so kept {until}"
    if explanation.links and not (explanation.keepers or explanation.in_doubt):
        yield f"  linked in {', '.join(explanation.links)}: a link alone keeps nothing"
    yield RULES[explanation.verdict.value]


def _place(explanation: "Explanation") -> str:
    if explanation.size is not None:
        return human(explanation.size)
    if explanation.trashed is not None:
        return f"{human(explanation.trashed)}, in the trash of collections"
    return "not stored"


def _keeper(keeper: "Keeper") -> str:
    role = ROLES[keeper.role.value]
    what = role if keeper.role.value == "manifest" else f"{role} {keeper.digest}"
    if keeper.holder.item is not None:
        return f"{what} in {keeper.holder.name}, removed: trash {keeper.holder.item}"
    ways = [_chain(chain) for chain in keeper.chains]
    return f"{what} in {keeper.holder.name}, {'; '.join(ways) if ways else 'untagged'}"


def _chain(chain: "Chain") -> str:
    if not chain.is_sure:
        return f"perhaps tagged {chain.tag}, which can't be read"
    words = [
        f"{'child of index' if step.relation.value == 'child' else 'refers to'} {step.digest}"
        for step in chain.steps
    ]
    return ", ".join([*words, f"tagged {chain.tag}"])


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def render_json(explanation: "Explanation") -> str:
    """Return what a program reads."""
    document = {
        "digest": str(explanation.digest),
        "verdict": explanation.verdict.value,
        "rule": RULES[explanation.verdict.value],
        "size": explanation.size,
        "trashed": explanation.trashed,
        "keepers": [_keeper_json(keeper) for keeper in explanation.keepers],
        "leases": [
            {
                "repository": lease.repository,
                "expires": None if lease.expires is None else _time(lease.expires),
            }
            for lease in explanation.leases
        ],
        "links": explanation.links,
        "inDoubt": [
            {"repository": holder.name, "item": holder.item} for holder in explanation.in_doubt
        ],
        "doubts": doubts_json(explanation.doubts),
        "partial": explanation.is_partial,
    }
    return json.dumps(document, indent=2)


def _keeper_json(keeper: "Keeper") -> dict[str, object]:
    return {
        "repository": keeper.holder.name,
        "item": keeper.holder.item,
        "manifest": str(keeper.digest),
        "role": keeper.role.value,
        "tags": [
            {
                "tag": chain.tag,
                "sure": chain.is_sure,
                "through": [
                    {"as": step.relation.value, "manifest": str(step.digest)}
                    for step in chain.steps
                ],
            }
            for chain in keeper.chains
        ],
    }
