"""What `du` prints. The numbers: `tests/unit/core/test_usage.py`."""

import json
from pathlib import Path

import pytest

from dockyard.cli.du import render, render_json
from dockyard.core.usage import RepositoryDetail, RepositoryUsage, Share, TagUsage, Totals, Usage
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from tests.parts.images import image
from tests.unit.cli.trees import plant, registry
from tests.unit.core.pushing import Tree


DIGEST = Digest.of(b"manifest")
TOTALS = Totals(stored=5000, needed=4000, leased=300, removed=200, unneeded=500, trash=7)
BIG = RepositoryUsage("library/big", 12, Share(needed=3500, unique=3000, frees=2048))
SMALL = RepositoryUsage("small", 1, Share(needed=500, unique=0, frees=0))
ALL = Usage(TOTALS, [BIG, SMALL], None)
DETAIL = RepositoryDetail(
    BIG,
    [TagUsage("v1", DIGEST, Share(needed=700, unique=600, frees=100), frees_untagged=600)],
    Share(needed=90, unique=80, frees=70),
    untagged_manifests=2,
)


def test_repositories_are_a_table_with_totals_below() -> None:
    assert render(ALL) == (
        "  FREES   UNIQUE  SHARED  MANIFESTS  REPOSITORY\n"
        "2.0 KiB  2.9 KiB   500 B         12  library/big\n"
        "    0 B      0 B   500 B          1  small\n"
        "\n"
        "4.9 KiB  stored\n"
        "3.9 KiB  needed by repositories\n"
        "  300 B  told to clients lately, who may be about to need it\n"
        "  200 B  needed by what was removed and can be restored\n"
        "  500 B  unneeded: a collection frees it\n"
        "    7 B  in the trash, beside what is stored"
    )


def test_tags_are_a_table_with_the_repository_below() -> None:
    assert render(Usage(TOTALS, [BIG], DETAIL)) == (
        "FREES  WITH -m  UNIQUE  SHARED  TAG         MANIFEST\n"
        f"100 B    600 B   600 B   100 B  v1          {DIGEST}\n"
        "    -     70 B    80 B    10 B  (untagged)  2 manifests\n"
        "\n"
        "library/big: 3.4 KiB, 2.9 KiB unique; deleting it would free 2.0 KiB"
    )


def test_without_repositories_there_is_the_head_of_the_table() -> None:
    assert render(Usage(TOTALS, [], None)).startswith(
        "FREES  UNIQUE  SHARED  MANIFESTS  REPOSITORY\n\n"
    )


def test_json_has_bytes() -> None:
    totals = {"stored": 5000, "needed": 4000, "leased": 300, "removed": 200, "unneeded": 500}
    big = {"name": "library/big", "manifests": 12, "unique": 3000, "shared": 500, "frees": 2048}
    small = {"name": "small", "manifests": 1, "unique": 0, "shared": 500, "frees": 0}
    assert json.loads(render_json(ALL)) == {
        "totals": {**totals, "trash": 7},
        "repositories": [big, small],
        "doubts": [],
        "partial": False,
    }
    tag = {"tag": "v1", "digest": str(DIGEST), "unique": 600, "shared": 100, "frees": 100}
    doubtful = Usage(TOTALS, [BIG], DETAIL, {"x/link": "damaged"})
    assert json.loads(render_json(doubtful)) == {
        "totals": {**totals, "trash": 7},
        "repository": big,
        "tags": [{**tag, "freesUntagged": 600}],
        "untagged": {"manifests": 2, "unique": 80, "shared": 10, "frees": 70},
        "doubts": [{"path": "x/link", "reason": "damaged"}],
        "partial": False,
    }


@pytest.fixture
def config(tmp_path: Path) -> Path:
    async def pushing(tree: Tree) -> None:
        await tree.push("library/good", image("good"), "v1")
        await tree.push("library/bad", image("bad"), "v1")
        path = layout.revision_link("library/bad", Digest.parse(image("bad").digest))
        await tree.storage.put(path, b"")

    return plant(tmp_path, pushing)


def test_a_damaged_link_is_told_after_the_rest(config: Path) -> None:
    result = registry("du", "--config", config, "--json")
    assert result.returncode == 1
    document = json.loads(result.stdout)
    assert [each["name"] for each in document["repositories"]] == ["library/good", "library/bad"]
    ((path),) = [each["path"] for each in document["doubts"]]
    assert f"can't read {path}: damaged link" in result.stderr


def test_a_repository_that_is_not_there(config: Path) -> None:
    result = registry("du", "library", "--config", config)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.endswith("Error: no repository library\n")


def test_a_name_that_is_none() -> None:
    result = registry("du", "Library/../x")
    assert (result.returncode, result.stdout) == (1, "")
    assert "'Library/../x'; expected lower-case components" in result.stderr
