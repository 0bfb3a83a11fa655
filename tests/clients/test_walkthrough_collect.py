"""The end of the walkthrough: what was deleted is collected, twice, while everything serves.

The four repositories are the walkthrough's: ``centos`` and ``flannel``, and ``myweb`` and ``test``,
whose images are built on centos' layer. So the numbers are the walkthrough's too. Before each
collection the tree is copied, and docker-registry and distribution 3 collect the copies.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.parts.engines import DockerEngine
from tests.parts.images import DOCKER_MANIFEST
from tests.parts.programs import attempt, find, run
from tests.parts.registries import PREDECESSOR, RegistryUnderTest, server_program


PEERS: Final = (PREDECESSOR, "registry-v3")
FLANNEL: Final = "flannel:v0.12.0-s390x"
BUILT: Final = {
    "myweb:v1": "ADD added /\n",
    "test:v1": "LABEL test=v1\n",  # a configuration of its own on centos' only layer
    "test:v2": "ADD added /\n",
}
"""What is built on centos, and how."""

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection.

    Attributes:
        said: standard output.
        logged: standard error.
        before, after: digests of all blobs before and after, with their sizes in bytes.
        peers: what each peer that is installed printed for a copy of the same tree.
        left: digests of the blobs that a peer left in its copy.
    """

    said: str
    logged: str
    before: dict[str, int]
    after: dict[str, int]
    peers: dict[str, str] = field(default_factory=dict)
    left: dict[str, set[str]] = field(default_factory=dict)

    @property
    def gone(self) -> set[str]:
        """Digests of the blobs that went."""
        return set(self.before) - set(self.after)


@dataclass(frozen=True, slots=True)
class Walk:
    """What was said.

    Attributes:
        centos: digest of its manifest, which was deleted, and of its configuration.
        deleted, removed: the collections after DELETE and after ``rm -rf``.
        pulls: what the second node's pulls said after each of the two, by image.
        bytes_of_tree: what ``du`` says of the root before and after each collection.
        complaints: lines of the server's log on failures of its own.
    """

    centos: tuple[str, str]
    deleted: Collection
    removed: Collection
    pulls: tuple[dict[str, str], dict[str, str]]
    bytes_of_tree: Sequence[int]
    complaints: list[str]


def blobs(root: Path) -> dict[str, int]:
    found = (root / "docker/registry/v2/blobs").rglob("data")
    return {f"sha256:{path.parent.name}": path.stat().st_size for path in found}


def collect(server: RegistryUnderTest, folder: Path) -> Collection:
    """Collect with the peers on copies, then with ours on the tree that is served."""
    before = blobs(server.root)
    peers, left = {}, {}
    for program in filter(find, PEERS):
        copy = RegistryUnderTest(folder / program, program=program)
        shutil.copytree(server.root, copy.root, dirs_exist_ok=True)
        peers[program] = run(program, "garbage-collect", copy.config)
        left[program] = set(blobs(copy.root))
    done = attempt(server_program(), "garbage-collect", server.config)
    assert done.returncode == 0, done.stderr
    return Collection(done.stdout, done.stderr, before, blobs(server.root), peers, left)


def used(root: Path) -> int:
    return int(run("du", "--summarize", "--bytes", root).split()[0])


def pull_all(node: DockerEngine, images: Sequence[str]) -> dict[str, str]:
    said = {}
    for name in images:
        node.attempt("rmi", name)
        done = node.attempt("pull", name)
        said[name.partition("/")[2]] = done.stdout if done.returncode == 0 else done.stderr.strip()
    return said


def push_images(node: DockerEngine, address: str, folder: Path) -> None:
    centos = f"{address}/centos:7"
    node.make_image(centos, {"etc-centos-release": "CentOS Linux release 7\n" * 4000}, layers=1)
    node.make_image(f"{address}/{FLANNEL}", {"flanneld": "#!/bin/sh\n"}, layers=6)
    for name, step in BUILT.items():
        work = folder / name.replace(":", "-")
        work.mkdir()
        (work / "added").write_text(f"{name}\n")
        (work / "Dockerfile").write_text(f"FROM {centos}\n{step}")
        node.docker("build", "--quiet", "--tag", f"{address}/{name}", work)
    for name in ("centos:7", FLANNEL, *BUILT):
        node.docker("push", f"{address}/{name}")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DockerEngine, DockerEngine]]:
    with (
        DockerEngine(tmp_path_factory.mktemp("c1")) as first,
        DockerEngine(tmp_path_factory.mktemp("c2")) as second,
    ):
        yield first, second


@pytest.fixture(scope="module")
def walk(
    tmp_path_factory: pytest.TempPathFactory, nodes: tuple[DockerEngine, DockerEngine]
) -> Walk:
    first, second = nodes
    folder = tmp_path_factory.mktemp("collect")
    with RegistryUnderTest(folder / "server") as server:
        address, repositories = server.address, server.root / "docker/registry/v2/repositories"
        images = [f"{address}/{name}" for name in ("centos:7", FLANNEL, *BUILT)]
        push_images(first, address, folder)
        accept = ("--header", f"Accept:{DOCKER_MANIFEST}")
        url = f"{server.url}/v2/centos/manifests"
        head = run("curl", "--silent", *accept, "-I", f"{url}/7")
        (manifest,) = DIGEST.findall(re.findall(r"(?im)^docker-content-digest:.*$", head)[0])
        config = first.image_id(images[0])
        assert " 202 " in run("curl", "--silent", "-I", "-X", "DELETE", f"{url}/{manifest}")
        sizes = [used(server.root)]
        deleted = collect(server, folder / "after-delete")
        sizes.append(used(server.root))
        pulls = [pull_all(second, images)]
        for name in ("test", "myweb"):
            run("rm", "-rf", repositories / name)
        sizes.append(used(server.root))
        removed = collect(server, folder / "after-rm")
        sizes.append(used(server.root))
        pulls.append(pull_all(second, images))
        complaints = server.complaints()
    return Walk((manifest, config), deleted, removed, (pulls[0], pulls[1]), sizes, complaints)


def marked(said: str) -> list[str]:
    """Return the lines up to the empty one."""
    lines = said.splitlines()
    return lines[: lines.index("")]


def test_the_first_transcript(walk: Walk) -> None:
    """As in the walkthrough: centos is named and has nothing left, the others are marked."""
    lines = walk.deleted.said.splitlines()
    shapes = Counter(DIGEST.sub("D", line) for line in marked(walk.deleted.said))
    assert shapes == {
        "centos": 1,
        "flannel": 1,
        "flannel: marking manifest D ": 1,
        "flannel: marking blob D": 7,
        "myweb": 1,
        "myweb: marking manifest D ": 1,
        "myweb: marking blob D": 3,
        "test": 1,
        "test: marking manifest D ": 2,
        "test: marking blob D": 3,  # centos' layer was marked by myweb: it is told once
    }
    assert [line for line in lines if ":" not in line and line and "marked" not in line] == [
        *("centos", "flannel", "myweb", "test")
    ]
    assert lines[lines.index("") + 1] == (
        "17 blobs marked, 2 blobs and 0 manifests eligible for deletion"
    )


def test_the_deleted_images_manifest_and_configuration_go(walk: Walk) -> None:
    after = walk.deleted.said.partition("\n\n")[2].splitlines()[1:]
    assert sorted(after) == [
        *sorted(f"blob eligible for deletion: {digest}" for digest in walk.centos),
        f"centos: layer link eligible for deletion: {walk.centos[1]}",
    ]
    assert walk.deleted.gone == set(walk.centos)


def test_each_deletion_is_logged_as_in_the_walkthrough(walk: Walk) -> None:
    for each in (walk.deleted, walk.removed):
        logged = re.findall(r'msg="Deleting blob: (\S+)"', each.logged)
        assert sorted(logged) == sorted(
            f"/docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}" for digest in each.gone
        )


def test_the_second_transcript(walk: Walk) -> None:
    """After ``rm -rf`` of two repositories only flannel is marked, and nine blobs go."""
    said = walk.removed.said
    shapes = Counter(DIGEST.sub("D", line) for line in said.splitlines())
    assert shapes == {
        "centos": 1,
        "flannel": 1,
        "flannel: marking manifest D ": 1,
        "flannel: marking blob D": 7,
        "": 1,
        "8 blobs marked, 9 blobs and 0 manifests eligible for deletion": 1,
        "blob eligible for deletion: D": 9,
        "centos: layer link eligible for deletion: D": 1,
    }
    assert len(walk.removed.gone) == 9
    assert set(walk.removed.after) == set(DIGEST.findall("\n".join(marked(said))))


def test_the_disk_is_freed(walk: Walk) -> None:
    before, after, removed, end = walk.bytes_of_tree
    for each, at_first, at_last in ((walk.deleted, before, after), (walk.removed, removed, end)):
        assert at_first - at_last >= sum(each.before[digest] for digest in each.gone)


def test_a_deleted_image_is_unknown_to_docker(walk: Walk) -> None:
    for said in walk.pulls:
        assert said["centos:7"].endswith("not found: manifest unknown: manifest unknown")
    for name in BUILT:
        assert walk.pulls[1][name].endswith("not found: manifest unknown: manifest unknown")


def test_what_was_not_deleted_is_still_pulled(walk: Walk) -> None:
    for name in (FLANNEL, *BUILT):
        assert "Status: " in walk.pulls[0][name], walk.pulls[0][name]
    assert "Status: " in walk.pulls[1][FLANNEL]


def test_the_server_complains_of_nothing(walk: Walk) -> None:
    assert walk.complaints == []


def first_of_each_blob(said: str) -> Counter[str]:
    """Return the lines of docker-registry 2.8 that distribution 3 prints too: it names a blob once,
    whatever needs it.
    """
    seen, lines = set[str](), Counter[str]()
    for line in said.splitlines():
        if ": marking " in line:
            digest = DIGEST.findall(line)[0]
            if digest in seen and ": marking blob " in line:
                continue
            seen.add(digest)
        lines[line] += 1
    return lines


@pytest.mark.parametrize("step", ["deleted", "removed"])
@pytest.mark.parametrize(
    "program", [PREDECESSOR, pytest.param("registry-v3", marks=pytest.mark.slow)]
)
def test_a_peer_prints_the_same_for_a_copy(walk: Walk, program: str, step: str) -> None:
    collection: Collection = getattr(walk, step)
    if program not in collection.peers:
        pytest.skip(f"{program} is not installed; scripts/install-parts installs it")
    theirs = collection.peers[program]
    ours = collection.said.splitlines()
    if program == PREDECESSOR:  # which leaves links to blobs that are gone
        ours = [line for line in ours if "layer link eligible" not in line]
        assert first_of_each_blob(theirs) == Counter(ours)
    else:
        # It also unlinks what centos itself no longer needs, but others do.
        kept = [
            digest
            for digest in collection.after
            if f"layer link eligible for deletion: {digest}" in theirs
        ]
        more = [f"centos: layer link eligible for deletion: {digest}" for digest in kept]
        assert Counter(theirs.splitlines()) == Counter([*ours, *more])
        assert len(more) == (1 if step == "deleted" else 0)
    assert marked(theirs)[0] == marked(collection.said)[0]
    assert collection.left[program] == set(collection.after)
