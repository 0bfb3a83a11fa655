"""The walkthrough that every user of docker-distribution has read, with two real docker engines as
its two nodes.

It is walked once, in its order; what was said at each step is kept, and each test is one claim
about it. The names, the configuration, the shape of the tree and the answers are the walkthrough's
own.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.parts.engines import DockerEngine
from tests.parts.images import DOCKER_MANIFEST
from tests.parts.programs import run
from tests.parts.registries import RegistryUnderTest


HOST: Final = "docker-registry.io"
"""The registry's second name, which only the two engines' own hosts files know."""

CONFIG: Final = """\
version: 0.1
log:
  fields:
    service: registry
storage:
    cache:
        layerinfo: inmemory
    filesystem:
        rootdirectory: {root}
http:
    addr: {address}
"""

CONFIG_WITH_DELETE: Final = CONFIG.replace(
    "storage:\n", "storage:\n    delete:\n        enabled: true\n"
)

CENTOS: Final = "centos:7"
FLANNEL: Final = "flannel:v0.12.0-s390x"
FLANNEL_LAYERS: Final = 6


@dataclass(frozen=True, slots=True)
class Walk:
    """What was said at each step.

    Attributes:
        root: the registry's root directory, as it is at the end.
        flannel, centos: the images' full names.
        pushed: output of ``docker push``, by image.
        size: bytes of each manifest as served, by image.
        tree: output of ``tree`` after the pushes.
        files: every file below the root after the pushes, and its content if it is a link.
        catalog: output of ``curl …/v2/_catalog``.
        pulled: output of ``docker pull`` of flannel on the second node.
        images: id of flannel on the first and on the second node.
        listed: what ``docker images`` says on the second node.
        manifest: head of the answer that tells centos' digest.
        digest: that digest.
        refused: answer to DELETE while deletion is off.
        deleted: answer to DELETE once it is on.
        pull_after: what the second node's pull of centos then says.
        again: output of the second node's pull of flannel after that.
    """

    root: Path
    flannel: str
    centos: str
    pushed: dict[str, str]
    size: dict[str, str]
    tree: str
    files: dict[str, str]
    catalog: str
    pulled: str
    images: tuple[str, str]
    listed: str
    manifest: str
    digest: str
    refused: str
    deleted: str
    pull_after: str
    again: str


def curl(*arguments: str) -> str:
    return run("curl", "--silent", "--show-error", "--max-time", "20", *arguments)


def links(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(root)): path.read_bytes().decode() if path.name == "link" else ""
        for path in files
    }


def header(head: str, name: str) -> str:
    found = re.search(rf"^{name}: *(.*)$", head, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else ""


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryUnderTest]:
    """The registry with the walkthrough's own configuration; only its port and its root differ."""
    server = RegistryUnderTest(tmp_path_factory.mktemp("distribution"))
    server.write_config(CONFIG.format(root=server.root, address=server.address))
    with server:
        yield server


@pytest.fixture(scope="module")
def nodes(
    tmp_path_factory: pytest.TempPathFactory, distribution: RegistryUnderTest
) -> Iterator[tuple[DockerEngine, DockerEngine]]:
    insecure = [distribution.address, f"{HOST}:{distribution.port}"]
    hosts = {HOST: "127.0.0.1"}
    with (
        DockerEngine(tmp_path_factory.mktemp("w1"), insecure=insecure, hosts=hosts) as first,
        DockerEngine(tmp_path_factory.mktemp("w2"), insecure=insecure, hosts=hosts) as second,
    ):
        yield first, second


@pytest.fixture(scope="module")
def walk(distribution: RegistryUnderTest, nodes: tuple[DockerEngine, DockerEngine]) -> Walk:
    first, second = nodes
    server = distribution
    flannel = f"{server.address}/{FLANNEL}"
    centos = f"{HOST}:{server.port}/{CENTOS}"
    first.make_image(centos, {"etc-centos-release": "CentOS Linux release 7\n"}, layers=1)
    first.make_image(flannel, {"flanneld": "#!/bin/sh\n"}, layers=FLANNEL_LAYERS)
    pushed = {name: first.docker("push", name) for name in (flannel, centos)}
    tree, files = run("tree", server.root), links(server.root)
    catalog = curl(f"{server.url}/v2/_catalog")
    pulled = second.docker("pull", flannel)
    images = first.image_id(flannel), second.image_id(flannel)
    listed = second.docker("images", "--no-trunc")

    accept = ("--header", f"Accept:{DOCKER_MANIFEST}")
    heads = {
        name: curl(*accept, "-I", "-X", "GET", f"{server.url}/v2/{path}")
        for name, path in (
            (flannel, "flannel/manifests/v0.12.0-s390x"),
            (centos, "centos/manifests/7"),
        )
    }
    digest = header(heads[centos], "Docker-Content-Digest")
    manifest_url = f"{server.url}/v2/centos/manifests/{digest}"
    refused = curl("-i", "-X", "DELETE", manifest_url)
    server.write_config(CONFIG_WITH_DELETE.format(root=server.root, address=server.address))
    server.restart()
    deleted = curl("-I", "-X", "DELETE", manifest_url)
    pull_after = second.attempt("pull", centos)
    second.docker("rmi", flannel)
    again = second.docker("pull", flannel)
    return Walk(
        root=server.root,
        flannel=flannel,
        centos=centos,
        pushed=pushed,
        size={name: header(head, "Content-Length") for name, head in heads.items()},
        tree=tree,
        files=files,
        catalog=catalog,
        pulled=pulled,
        images=images,
        listed=listed,
        manifest=heads[centos],
        digest=digest,
        refused=refused,
        deleted=deleted,
        pull_after=pull_after.stderr,
        again=again,
    )


def test_each_layer_is_pushed(walk: Walk) -> None:
    states = {
        name: re.findall(r"^[0-9a-f]{12}: Pushed\s*$", said, re.MULTILINE)
        for name, said in walk.pushed.items()
    }
    assert {name: len(lines) for name, lines in states.items()} == {walk.flannel: 6, walk.centos: 1}


@pytest.mark.parametrize("image", ["flannel", "centos"])
def test_a_push_ends_with_tag_digest_and_size(walk: Walk, image: str) -> None:
    name: str = getattr(walk, image)
    first, *_, last = walk.pushed[name].splitlines()
    repository, _, tag = name.rpartition(":")
    assert first == f"The push refers to repository [{repository}]"
    assert re.fullmatch(
        rf"{re.escape(tag)}: digest: sha256:[0-9a-f]{{64}} size: {walk.size[name]}", last
    )


def leaves(tree: str) -> Counter[str]:
    """Return how often each shape of path ends in `tree`: ``…/sha256/xx/<hex>/data``, say, eleven
    times.
    """
    paths: list[str] = []
    parents: list[str] = []
    for line in tree.splitlines():
        drawn = re.match(r"((?:│|\s|\xa0)*)[├└]── (.*)", line)
        if drawn:
            parents[len(drawn[1]) // 4 :] = [drawn[2]]
            paths.append("/".join(parents))
    ends = [
        path
        for path, after in zip(paths, [*paths[1:], ""], strict=True)
        if not after.startswith(f"{path}/")
    ]
    return Counter(
        re.sub(r"\b[0-9a-f]{64}\b", "<hex>", re.sub(r"/[0-9a-f]{2}/", "/xx/", path))
        for path in ends
    )


def test_the_tree_has_the_walkthroughs_shape(walk: Walk) -> None:
    expected = leaves(Path(__file__).with_name("walkthrough-tree.txt").read_text())
    assert sum(expected.values()) == 28  # 26 files and two empty _uploads
    assert leaves(walk.tree) == expected


def test_tree_counts_the_walkthroughs_directories_and_files(walk: Walk) -> None:
    prefixes = {path.split("/")[5] for path in walk.files if path.endswith("/data")}
    alone = run("tree", walk.root / "docker/registry/v2/repositories/flannel/_manifests/revisions")
    itself = (
        int(re.findall(r"(\d+) director", alone)[-1]) - 2
    )  # newer versions count the folder given
    shared = 11 - len(prefixes)  # blobs that lie in the folder of another one
    assert walk.tree.splitlines()[-1] == f"{65 - shared + itself} directories, 26 files"


def test_a_link_holds_a_digest_and_nothing_else(walk: Walk) -> None:
    said = {path: text for path, text in walk.files.items() if path.endswith("/link")}
    assert len(said) == 15
    assert [
        path for path, text in said.items() if not re.fullmatch("sha256:[0-9a-f]{64}", text)
    ] == []
    named = {path: path.split("/")[-2] for path in said if not path.endswith("/current/link")}
    assert {path: said[path] for path in named} == {
        path: f"sha256:{hex_}" for path, hex_ in named.items()
    }


def test_the_catalog_names_both_repositories(walk: Walk) -> None:
    assert walk.catalog.strip() == '{"repositories":["centos","flannel"]}'


def test_the_other_node_pulls_every_layer(walk: Walk) -> None:
    layers = re.findall(r"^[0-9a-f]{12}: Pull complete\s*$", walk.pulled, re.MULTILINE)
    assert len(layers) == FLANNEL_LAYERS
    digest = re.findall(r"digest: (sha256:\S+)", walk.pushed[walk.flannel])[0]
    *_, told, status, name = walk.pulled.splitlines()
    assert told == f"Digest: {digest}"
    assert status == f"Status: Downloaded newer image for {walk.flannel}"
    assert name == walk.flannel


def test_the_other_node_lists_the_same_image(walk: Walk) -> None:
    pushed, pulled = walk.images
    assert pushed == pulled
    repository, _, tag = walk.flannel.rpartition(":")
    assert [line.split()[:3] for line in walk.listed.splitlines()[1:]] == [
        [repository, tag, pulled]
    ]


def test_the_head_of_a_manifest_tells_its_digest(walk: Walk) -> None:
    assert walk.manifest.split()[1] == "200"
    assert header(walk.manifest, "Content-Type") == DOCKER_MANIFEST
    assert f"digest: {walk.digest} size:" in walk.pushed[walk.centos]


def test_deletion_is_refused_while_it_is_off(walk: Walk) -> None:
    head, _, body = walk.refused.partition("\n\n")
    assert head.split()[1] == "405"
    assert [error["code"] for error in json.loads(body)["errors"]] == ["UNSUPPORTED"]


def test_deletion_answers_as_the_walkthrough_shows_once_it_is_on(walk: Walk) -> None:
    assert walk.deleted.splitlines()[0] == "HTTP/1.1 202 Accepted"
    assert header(walk.deleted, "Docker-Distribution-Api-Version") == "registry/2.0"
    assert header(walk.deleted, "Content-Length") == "0"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", header(walk.deleted, "Date"))


def test_what_was_deleted_is_unknown_to_the_other_node(walk: Walk) -> None:
    assert walk.pull_after.strip() == (
        f"Error response from daemon: manifest for {walk.centos} not found: "
        "manifest unknown: manifest unknown"
    )


def test_what_was_not_deleted_is_still_pulled(walk: Walk) -> None:
    assert f"Status: Downloaded newer image for {walk.flannel}" in walk.again
