"""What `explain` prints. What it finds out: `tests/unit/core/test_explanation.py`."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dockyard.cli.explain import RULES, render, render_json
from dockyard.core.explanation import (
    Chain,
    Explanation,
    Keeper,
    Lease,
    Relation,
    Step,
    Verdict,
)
from dockyard.core.holdings import Holder, Role
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from tests.parts.images import image
from tests.unit.cli.trees import plant, registry
from tests.unit.core.pushing import ITEM, Tree


BLOB, ONE, TWO = (Digest.of(text) for text in (b"blob", b"one", b"two"))
HERE, GONE = Holder("a", "x/a"), Holder("b/c", f"x/{ITEM}/b:c", ITEM)
THROUGH = Chain("v2", (Step(Relation.CHILD, TWO), Step(Relation.REFERRER, BLOB)))
LEASE = Lease("d", datetime(2026, 1, 31, 12, tzinfo=UTC))
FULL = Explanation(
    BLOB,
    size=2048,
    keepers=[
        Keeper(HERE, ONE, Role.LAYER, (Chain("v1"), THROUGH)),
        Keeper(HERE, BLOB, Role.ITSELF),
        Keeper(HERE, TWO, Role.CHILD, (Chain("v3", is_sure=False),)),
        Keeper(GONE, ONE, Role.CONFIG),
    ],
    leases=[LEASE, Lease(None, None)],
    links=["a"],
    in_doubt=[HERE, GONE],
    doubts={"x/link": "damaged"},
)


def test_lines_say_who_keeps_it_then_what_becomes_of_it() -> None:
    assert list(render(FULL)) == [
        f"{BLOB}: 2.0 KiB",
        f"  layer of {ONE} in a, tagged v1; child of index {TWO}, refers to {BLOB}, tagged v2",
        "  itself a manifest in a, untagged",
        f"  listed by index {TWO} in a, perhaps tagged v3, which can't be read",
        f"  configuration of {ONE} in b/c, removed: trash {ITEM}",
        "  in doubt: a has a link to it, and something that can't be read",
        f"  in doubt: b/c (trash {ITEM}) has a link to it, and something that can't be read",
        "  told to a client of d, so kept until 2026-01-31T12:00:00Z",
        "  told to a client of a repository that can't be read, so kept for up to an hour",
        "kept",
    ]


def test_a_link_is_told_where_nothing_else_keeps_it() -> None:
    assert list(render(Explanation(BLOB, size=1, links=["a", "b"]))) == [
        f"{BLOB}: 1 B",
        "  linked in a, b: a link alone keeps nothing",
        "no manifest needs it: the next collection takes it",
    ]


def test_where_its_bytes_are() -> None:
    assert next(render(Explanation(BLOB, trashed=5))) == f"{BLOB}: 5 B, in the trash of collections"
    assert next(render(Explanation(BLOB))) == f"{BLOB}: not stored"


def test_every_verdict_has_its_rule() -> None:
    assert set(RULES) == {verdict.value for verdict in Verdict}


def test_json_says_the_same() -> None:
    through = [{"as": "child", "manifest": str(TWO)}, {"as": "referrer", "manifest": str(BLOB)}]
    tags = [
        {"tag": "v1", "sure": True, "through": []},
        {"tag": "v2", "sure": True, "through": through},
    ]
    document = json.loads(render_json(FULL))
    keepers = document.pop("keepers")
    assert keepers[0] == {
        "repository": "a",
        "item": None,
        "manifest": str(ONE),
        "role": "layer",
        "tags": tags,
    }
    assert keepers[3]["item"] == ITEM
    assert document == {
        "digest": str(BLOB),
        "verdict": "kept",
        "rule": "kept",
        "size": 2048,
        "trashed": None,
        "leases": [
            {"repository": "d", "expires": "2026-01-31T12:00:00Z"},
            {"repository": None, "expires": None},
        ],
        "links": ["a"],
        "inDoubt": [{"repository": "a", "item": None}, {"repository": "b/c", "item": ITEM}],
        "doubts": [{"path": "x/link", "reason": "damaged"}],
        "partial": False,
    }


@pytest.fixture
def config(tmp_path: Path) -> Path:
    async def pushing(tree: Tree) -> None:
        await tree.push("good", image("good"), "v1")
        await tree.push("bad", image("bad"), "v1")
        path = layout.revision_link("bad", Digest.parse(image("bad").digest))
        await tree.storage.put(path, b"")

    return plant(tmp_path, pushing)


def test_a_damaged_link_is_told_after_the_rest(config: Path) -> None:
    result = registry("explain", image("bad").blobs[0].digest, "--config", config)
    assert result.returncode == 1
    assert result.stdout.splitlines()[1:] == [
        "  in doubt: bad has a link to it, and something that can't be read",
        "kept",
    ]
    assert "damaged link docker/registry/v2/repositories/bad/" in result.stderr


def test_what_is_not_there(tmp_path: Path) -> None:
    async def pushing(tree: Tree) -> None:
        await tree.push("good", image("good"), "v1")

    config = plant(tmp_path, pushing)
    result = registry("explain", BLOB, "--config", config)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"{BLOB}: not stored\nno such blob\n"
    result = registry("explain", image("good").digest, "--config", config, "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["verdict"] == "kept"


def test_what_is_no_digest() -> None:
    result = registry("explain", "sha256:abc")
    assert (result.returncode, result.stdout) == (1, "")
    assert "'sha256:abc'; expected sha256: or sha512: and its hexadecimals" in result.stderr
