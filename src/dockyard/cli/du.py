"""The command ``du``: what repositories and tags take, and what deleting them would free."""

import json
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.inspecting import doubts_json, human, look, tell_doubts
from dockyard.config import Settings
from dockyard.errors import NameInvalidError
from dockyard.oci.reference import parse_name


if TYPE_CHECKING:
    from dockyard.core.usage import RepositoryDetail, RepositoryUsage, Share, TagUsage, Usage


@click.command("du")
@click.argument("repo", required=False)
@click.option(
    "--config", type=click.Path(path_type=Path), help="the configuration; found as by `serve`"
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object, sizes in bytes")
def du(repo: str | None, config: Path | None, *, as_json: bool) -> int:
    """Show what each repository takes, and what deleting it would free.

    With REPO, what each of its tags does. Nothing is changed; servers may go on meanwhile.

    The exit status is 1 if something can't be read.
    """
    try:
        name = None if repo is None else parse_name(repo)
    except NameInvalidError as error:
        raise click.ClickException(
            f"{error}; expected lower-case components with slashes between, such as library/app"
        ) from error

    def survey(settings: Settings) -> "Awaitable[Usage]":
        from dockyard.server import inspection  # noqa: PLC0415 -- mistakes are told first

        return inspection.survey(settings, name)

    usage = look(config, survey)
    click.echo(render_json(usage) if as_json else render(usage))
    return tell_doubts(usage.doubts, is_partial=usage.is_partial)


def render(usage: "Usage") -> str:
    """Return what a person reads: a table, and what it adds up to."""
    if usage.detail is not None:
        return _tags(usage.detail)
    rows = [("FREES", "UNIQUE", "SHARED", "MANIFESTS", "REPOSITORY")]
    rows += [(*_shares(each.share), str(each.manifests), each.name) for each in usage.repositories]
    totals = usage.totals
    sums = [
        (human(totals.stored), "stored"),
        (human(totals.needed), "needed by repositories"),
        (human(totals.leased), "told to clients lately, who may be about to need it"),
        (human(totals.removed), "needed by what was removed and can be restored"),
        (human(totals.unneeded), "unneeded: a collection frees it"),
        (human(totals.trash), "in the trash, beside what is stored"),
    ]
    return f"{_table(rows)}\n\n{_table(sums)}"


def _tags(detail: "RepositoryDetail") -> str:
    rows = [("FREES", "WITH -m", "UNIQUE", "SHARED", "TAG", "MANIFEST")]
    for each in detail.tags:
        frees, unique, shared = _shares(each.share)
        row = (frees, human(each.frees_untagged), unique, shared, each.tag, str(each.digest))
        rows.append(row)
    if detail.untagged_manifests:
        frees, unique, shared = _shares(detail.untagged)
        count = f"{detail.untagged_manifests} manifests"
        rows.append(("-", frees, unique, shared, "(untagged)", count))
    share = detail.usage.share
    last = (
        f"{detail.usage.name}: {human(share.needed)}, {human(share.unique)} unique; "
        f"deleting it would free {human(share.frees)}"
    )
    return f"{_table(rows)}\n\n{last}"


def _shares(share: "Share") -> tuple[str, str, str]:
    return human(share.frees), human(share.unique), human(share.shared)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows in columns: sizes and counts to the right, texts to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if _is_amount(rows, column) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _is_amount(rows: Sequence[tuple[str, ...]], column: int) -> bool:
    """Return whether a column has amounts: all do that are left of the first text."""
    return rows[0][column] not in {"REPOSITORY", "TAG", "MANIFEST"} and not (
        len(rows[0]) == 2 and column == 1  # noqa: PLR2004 -- the sums: amount and meaning
    )


def render_json(usage: "Usage") -> str:
    """Return what a program reads."""
    totals = usage.totals
    document: dict[str, object] = {
        "totals": {
            "stored": totals.stored,
            "needed": totals.needed,
            "leased": totals.leased,
            "removed": totals.removed,
            "unneeded": totals.unneeded,
            "trash": totals.trash,
        },
    }
    detail = usage.detail
    if detail is None:
        document["repositories"] = [_repository(each) for each in usage.repositories]
    else:
        document["repository"] = _repository(detail.usage)
        document["tags"] = [_tag(each) for each in detail.tags]
        untagged = {"manifests": detail.untagged_manifests, **_share(detail.untagged)}
        document["untagged"] = untagged
    document["doubts"] = doubts_json(usage.doubts)
    document["partial"] = usage.is_partial
    return json.dumps(document, indent=2)


def _repository(usage: "RepositoryUsage") -> dict[str, object]:
    return {"name": usage.name, "manifests": usage.manifests, **_share(usage.share)}


def _tag(usage: "TagUsage") -> dict[str, object]:
    return {
        "tag": usage.tag,
        "digest": str(usage.digest),
        **_share(usage.share),
        "freesUntagged": usage.frees_untagged,
    }


def _share(share: "Share") -> dict[str, int]:
    return {"unique": share.unique, "shared": share.shared, "frees": share.frees}
