"""One tree, collected by docker-registry and by Dockyard: the same remains, but for named faults.

docker-registry fills the tree, as one does that is taken over. Then it is copied, and each program
collects a copy.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final

import pytest

from tests.parts.images import artifact, digest_of, digests_of, image, index, multi_platform
from tests.parts.programs import attempt, run
from tests.parts.registries import PREDECESSOR, RegistryUnderTest
from tests.registry_client import RegistryClient, assert_served
from tests.takeover.collection import LIBRARY, push_library, stored_files


TAGGED: Final = image("tagged", layers=3)
OVERWRITTEN: Final = image("overwritten")
NEVER_TAGGED: Final = image("never-tagged")
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Trees:
    """A tree that docker-registry filled, and copies of it, one for each run of a collector."""

    def __init__(self, folder: Path, old: str, new: str) -> None:
        self.programs = {"old": old, "new": new}
        self.source = RegistryUnderTest(folder / "source", program=old)
        self._folder = folder
        self._copies = 0

    def fill(self, push: Callable[[RegistryClient], None]) -> None:
        """Start docker-registry, push to it, and stop it."""
        with self.source, RegistryClient(self.source.address) as client:
            push(client)

    def copy(self, who: str) -> RegistryUnderTest:
        """Return a registry, not started, of `who` on a new copy of the tree."""
        self._copies += 1
        # What was pushed a moment ago goes too, as it does with distribution, which has no grace.
        settings = {"storage": {"maintenance": {"gc": {"grace": "0s"}}}} if who == "new" else {}
        made = RegistryUnderTest(
            self._folder / f"{who}-{self._copies}", program=self.programs[who], settings=settings
        )
        shutil.copytree(self.source.root, made.root, dirs_exist_ok=True)
        return made

    def collect(
        self, who: str, *flags: str, status: int = 0
    ) -> tuple[RegistryUnderTest, CompletedProcess[str]]:
        """Collect a new copy; return it, and what was said."""
        made = self.copy(who)
        done = attempt(self.programs[who], "garbage-collect", *flags, made.config)
        assert done.returncode == status, done.stderr
        return made, done

    @property
    def is_predecessor(self) -> bool:
        """Whether the old program is docker-registry 2.8."""
        return self.programs["old"].endswith(PREDECESSOR)


@pytest.fixture
def trees(tmp_path: Path, old_program: str, new_program: str) -> Trees:
    return Trees(tmp_path, old_program, new_program)


def blobs(server: RegistryUnderTest) -> set[str]:
    found = (server.root / "docker/registry/v2/blobs").rglob("data")
    return {f"sha256:{path.parent.name}" for path in found}


def links(server: RegistryUnderTest, kind: str) -> set[str]:
    """Return the links of a kind: ``_layers`` or ``_manifests``."""
    return {path for path, _ in stored_files(server.root) if f"/{kind}/" in path}


def files(server: RegistryUnderTest) -> dict[str, bytes]:
    """Return everything in distribution's own part of the tree."""
    stored = stored_files(server.root)
    return {path: body for path, body in stored if not path.startswith(".dockyard/")}


def eligible(said: str) -> list[str]:
    return sorted(line for line in said.splitlines() if "eligible for deletion: " in line)


def push_and_delete(client: RegistryClient) -> None:
    """Fill a tree in which there is something of everything to collect."""
    push_library(client)
    client.push_blob("orphans", b"never referenced by any manifest")
    client.delete_manifest("single", LIBRARY["single"].digest).expect(202)
    client.delete_manifest("library/docker", LIBRARY["library/docker"].digest).expect(202)
    client.delete_manifest("library/nested", LIBRARY["library/nested"].digest).expect(202)


def push_tags(client: RegistryClient) -> None:
    """Fill a tree with plain images under tags, some of them overwritten: what `-m` is for."""
    client.push_image("tags", TAGGED, "1", "latest")
    for name in ("tags", "other"):
        client.push_image(name, OVERWRITTEN, "overwritten")
        client.push_image(name, image(f"newer-{name}"), "overwritten")
    client.push_image("other", NEVER_TAGGED)


def test_the_same_remains(trees: Trees) -> None:
    trees.fill(push_and_delete)
    old, _ = trees.collect("old")
    new, _ = trees.collect("new")
    assert blobs(new) == blobs(old) < blobs(trees.source)
    assert links(new, "_manifests") == links(old, "_manifests")
    with new, RegistryClient(new.address) as client:
        assert_served(client, "shared/layers", LIBRARY["library/docker"], "1")
        assert_served(client, "library/oci-index", LIBRARY["library/oci-index"], "1", "latest")


def test_the_same_remains_with_delete_untagged(trees: Trees) -> None:
    trees.fill(push_tags)
    old, _ = trees.collect("old", "-m")
    new, _ = trees.collect("new", "-m")
    assert blobs(new) == blobs(old) < blobs(trees.source)
    assert OVERWRITTEN.digest not in blobs(new)
    revisions = {path for path in links(new, "_manifests") if "/revisions/" in path}
    assert revisions == {path for path in links(old, "_manifests") if "/revisions/" in path}


every_flag = pytest.mark.parametrize(
    "flags", [(), ("-m",), ("-d",), ("-d", "-m")], ids=lambda flags: "".join(flags) or "plain"
)


@every_flag
def test_the_lines_are_distributions(trees: Trees, flags: tuple[str, ...]) -> None:
    trees.fill(push_tags if "-m" in flags else push_and_delete)
    old, said = trees.collect("old", *flags)
    _, done = trees.collect("new", *flags)
    ours, theirs = Counter(done.stdout.splitlines()), Counter(said.stdout.splitlines())
    if trees.is_predecessor:
        assert as_version_2(done.stdout.splitlines()) == set(theirs) - again(theirs) - {"orphans"}
        return
    # It also unlinks what a repository does not need, but another does; we keep such a link.
    assert ours <= theirs
    more = list((theirs - ours).elements())
    assert [line for line in more if "layer link eligible" not in line] == []
    assert {digest for line in more for digest in DIGEST.findall(line)} <= blobs(old)


def as_version_2(lines: list[str]) -> set[str]:
    """Return our lines as docker-registry 2.8 words them: no links, no names of tags."""
    return {
        re.sub(r"\{\S+ (\S+) \[.*\]\}", r"\1", line) for line in lines if "layer link" not in line
    }


def again(lines: Counter[str]) -> set[str]:
    """Return the lines in which docker-registry 2.8 tells of a blob that it has told of."""
    seen, told = set[str](), set[str]()
    for line in lines:
        if ": marking " in line:
            (digest,) = DIGEST.findall(line)
            if digest in seen and ": marking blob " in line:
                told.add(line)
            seen.add(digest)
    return told


@every_flag
def test_the_order_of_the_lines_is_distributions(trees: Trees, flags: tuple[str, ...]) -> None:
    trees.fill(push_tags if "-m" in flags else push_and_delete)
    order = re.compile(
        r"([a-z./_-]+\n([a-z./_-]+: marking (manifest sha256:\w+ |blob sha256:\w+)\n)*)+"
        r"(manifest eligible for deletion: \{\S+ sha256:\w+ \[.*\]\}\n)*"
        r"\n\d+ blobs marked, \d+ blobs and \d+ manifests eligible for deletion\n"
        r"(blob eligible for deletion: sha256:\w+\n)*"
        r"([a-z./_-]+: layer link eligible for deletion: sha256:\w+\n)*"
    )
    assert order.fullmatch(trees.collect("new", *flags)[1].stdout)
    if not trees.is_predecessor:
        assert order.fullmatch(trees.collect("old", *flags)[1].stdout)


@pytest.mark.parametrize("flags", [(), ("-m",)], ids=["plain", "untagged"])
def test_a_dry_run_changes_nothing_and_tells_what_would_happen(
    trees: Trees, flags: tuple[str, ...]
) -> None:
    trees.fill(push_tags if flags else push_and_delete)
    dry, said = trees.collect("new", "--dry-run", *flags)
    assert files(dry) == files(trees.source)
    wet, done = trees.collect("new", *flags)
    assert said.stdout == done.stdout
    assert len(eligible(said.stdout)) > 0
    gone = blobs(trees.source) - blobs(wet)
    size = sum(
        (trees.source.root / f"docker/registry/v2/blobs/sha256/{each[7:9]}/{each[7:]}/data")
        .stat()
        .st_size
        for each in gone
    )
    assert said.stderr == f"{size} bytes would be freed\n"


def test_quiet_silences_standard_output_and_collects(trees: Trees) -> None:
    trees.fill(push_and_delete)
    for flags in (("-q",), ("--quiet", "--json")):
        new, done = trees.collect("new", *flags)
        assert done.stdout == ""
        assert blobs(new) < blobs(trees.source)


@pytest.mark.parametrize("flags", [("-m",), ("-d", "-m")], ids="".join)
def test_json_is_one_object_that_says_what_the_lines_say(
    trees: Trees, flags: tuple[str, ...]
) -> None:
    trees.fill(push_tags)
    made, done = trees.collect("new", "--json", *flags)
    said: dict[str, Any] = json.loads(done.stdout)
    lines = trees.collect("new", *flags)[1].stdout
    assert said["dryRun"] == ("-d" in flags)
    assert said["deleteUntagged"] is True
    assert f"\n{said['marked']} blobs marked, {len(said['blobs'])} blobs and " in lines
    told = [f"blob eligible for deletion: {each['digest']}" for each in said["blobs"]]
    told += [
        f"{each['repository']}: layer link eligible for deletion: {each['digest']}"
        for each in said["links"]
    ]
    listed = [line for line in eligible(lines) if not line.startswith("manifest eligible")]
    assert sorted(told) == listed
    assert {(each["repository"], each["digest"]) for each in said["manifests"]} == {
        ("tags", OVERWRITTEN.digest),
        ("other", OVERWRITTEN.digest),
        ("other", NEVER_TAGGED.digest),
    }
    assert said["freed"] == sum(each["size"] for each in said["blobs"]) > 0
    assert (said["spared"], said["doubts"]) == ([], [])
    assert (blobs(made) == blobs(trees.source)) == ("-d" in flags)


def test_a_second_collection_finds_nothing(trees: Trees) -> None:
    trees.fill(push_and_delete)
    new, _ = trees.collect("new")
    before = files(new)
    said = run(trees.programs["new"], "garbage-collect", new.config)
    assert eligible(said) == []
    assert files(new) == before


class TestFaultsOfDistribution:
    """What docker-registry destroys, or fails at, and Dockyard does not."""

    def test_an_untagged_referrer_of_a_tagged_image_is_kept(self, trees: Trees) -> None:
        """With -m distribution deletes signatures and SBOMs: it does not look at `subject`."""
        signature = artifact("signature", subject=TAGGED.manifest.descriptor())

        def push(client: RegistryClient) -> None:
            client.push_image("signed", TAGGED, "1")
            client.push_image("signed", signature)

        trees.fill(push)
        old, _ = trees.collect("old", "-m")
        new, said = trees.collect("new", "-m")
        assert blobs(trees.source) - blobs(old) >= {signature.digest}
        assert blobs(new) == blobs(trees.source)
        assert eligible(said.stdout) == []
        with new, RegistryClient(new.address) as client:
            assert_served(client, "signed", signature)
            referrers = client.referrers("signed", TAGGED.digest)
            assert [each["digest"] for each in referrers] == [signature.digest]

    def test_the_children_of_a_tagged_index_are_kept(self, trees: Trees) -> None:
        """With -m docker-registry 2.8 deletes them; distribution 3 keeps them."""
        top = index([multi_platform("below-1"), multi_platform("below-2")])

        def push(client: RegistryClient) -> None:
            client.push_image("index", top, "1")

        trees.fill(push)
        old, _ = trees.collect("old", "-m")
        new, said = trees.collect("new", "-m")
        assert (blobs(old) == digests_of(top)) == (not trees.is_predecessor)
        assert blobs(new) == blobs(trees.source) == digests_of(top)
        assert eligible(said.stdout) == []
        with new, RegistryClient(new.address) as client:
            assert_served(client, "index", top, "1")

    def test_a_repository_without_a_tag_is_told_of_and_stops_nobody(self, trees: Trees) -> None:
        """With -m docker-registry 2.8 ends at it and collects nothing; distribution 3 goes on."""

        def push(client: RegistryClient) -> None:
            client.push_image("tagless", NEVER_TAGGED)
            push_tags(client)

        trees.fill(push)
        old, _ = trees.collect("old", "-m", status=1 if trees.is_predecessor else 0)
        new, done = trees.collect("new", "-m")
        assert (blobs(old) == blobs(trees.source)) == trees.is_predecessor
        assert "manifest tags path of repository tagless does not exist" in done.stdout.splitlines()
        assert digests_of(NEVER_TAGGED).isdisjoint(blobs(new))
        with new, RegistryClient(new.address) as client:
            assert_served(client, "tags", TAGGED, "1", "latest")

    def test_an_empty_link_keeps_what_it_might_mean_and_the_rest_is_collected(
        self, trees: Trees
    ) -> None:
        """distribution collects nothing any more once one link is damaged."""
        trees.fill(push_and_delete)
        (damaged,) = (trees.source.root / "docker/registry/v2/repositories/overwritten").glob(
            f"_manifests/revisions/sha256/{image('untagged').digest[7:]}/link"
        )
        damaged.write_bytes(b"")
        old, failed = trees.collect("old", status=1)
        new, done = trees.collect("new", status=1)
        assert "failed to garbage collect: failed to mark: " in failed.stderr
        assert blobs(old) == blobs(trees.source)
        assert f"can't read {damaged.relative_to(trees.source.root)}" in done.stderr
        assert done.stderr.endswith("1 paths could not be read; what they might need was kept\n")
        assert digests_of(LIBRARY["single"]).isdisjoint(blobs(new))
        assert digests_of(image("untagged")) <= blobs(new)

    def test_links_to_what_is_gone_do_not_stay(self, trees: Trees) -> None:
        """docker-registry 2.8 leaves them: then it claims a blob that it does not have."""
        trees.fill(push_tags)
        old, _ = trees.collect("old", "-m")
        new, _ = trees.collect("new", "-m")

        def dangling(server: RegistryUnderTest) -> list[str]:
            there = blobs(server)
            return [path for path in links(server, "_layers") if _target(path) not in there]

        assert dangling(new) == []
        assert (dangling(old) != []) == trees.is_predecessor


def _target(path: str) -> str:
    return f"sha256:{Path(path).parent.name}"


def test_a_tree_without_repositories_is_told_in_distributions_words(trees: Trees) -> None:
    """A mistyped root directory must not look like a registry with nothing to collect."""
    said = {}
    for who in ("old", "new"):
        made = trees.copy(who)
        made.root.rmdir()
        done = attempt(trees.programs[who], "garbage-collect", made.config)
        assert (done.returncode, done.stdout) == (1, "")
        assert not made.root.exists()
        said[who] = done.stderr
    assert said["old"] == (
        "failed to garbage collect: failed to mark: "
        "filesystem: Path not found: /docker/registry/v2/repositories"
    )
    assert said["new"].startswith(said["old"])
    assert "storage.filesystem.rootdirectory" in said["new"]


def test_a_reader_that_leaves_does_not_stop_the_collection(trees: Trees) -> None:
    trees.fill(push_and_delete)
    whole, _ = trees.collect("new")
    new = trees.copy("new")
    script = 'set -o pipefail; "$0" garbage-collect "$1" | true'
    done = attempt("bash", "-c", script, trees.programs["new"], new.config)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert blobs(new) == blobs(whole)


def test_a_terminal_is_shown_how_far_marking_is(trees: Trees) -> None:
    trees.fill(push_and_delete)
    new = trees.copy("new")
    output = new.folder / "output"
    command = f"{trees.programs['new']} garbage-collect -q -d {new.config}"
    run("script", "--quiet", "--return", "--command", command, output)
    shown = output.read_bytes().decode()
    assert re.search(r"\r\d+ manifests and blobs marked.*\r\x1b\[K", shown), shown


class TestBesideAServer:
    """Dockyard collects what it serves itself, and keeps what clients rely on."""

    def test_a_blob_that_a_client_was_told_of_is_kept(
        self, server: RegistryUnderTest, new_program: str
    ) -> None:
        """distribution would take it, and the client's manifest would be refused."""
        server.become(new_program)
        top = image("in-flight")
        with RegistryClient(server.address) as client:
            for content in top.blobs:
                client.push_blob("in-flight", content.body)
            said = run(new_program, "garbage-collect", server.config)
            assert "0 blobs and 0 manifests eligible for deletion" in said
            client.push_manifest("in-flight", "1", top.manifest.body, top.manifest.media_type)
            assert_served(client, "in-flight", top, "1")

    def test_what_was_collected_can_be_pushed_again_at_once(
        self, server: RegistryUnderTest, new_program: str
    ) -> None:
        server.become(new_program)
        top = image("again")
        with RegistryClient(server.address) as client:
            for _ in range(3):
                client.push_image("again", top, "1")
                for content in top.blobs:
                    assert client.blob("again", content.digest).expect(200).body == content.body
                client.delete_manifest("again", top.digest).expect(202)
                run(new_program, "garbage-collect", server.config)
                assert blobs(server) == set()
                assert client.manifest("again", "1").status == 404
                for content in top.blobs:
                    assert client.blob("again", content.digest).status == 404
        assert server.complaints() == []

    def test_a_leftover_blob_goes_once_nobody_relies_on_it(
        self, server: RegistryUnderTest, new_program: str
    ) -> None:
        server.become(new_program)
        body = b"whose manifest never came"
        with RegistryClient(server.address) as client:
            client.push_blob("leftover", body)
        assert digest_of(body) in blobs(server)
        shutil.rmtree(server.root / "docker/registry/v2/.dockyard/leases")
        run(new_program, "garbage-collect", server.config)
        assert blobs(server) == set()
