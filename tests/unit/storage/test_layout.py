"""Source of the paths: distribution v3.1.1, registry/storage/paths.go."""

import re

import pytest
from hypothesis import given, strategies as st

from dockyard.oci.digest import Digest
from dockyard.storage import layout


HEX = "ab" + "c" * 62
DIGEST = Digest("sha256", HEX)
REPOSITORY = "docker/registry/v2/repositories/team/app"
COMPONENT = re.compile(r"[A-Za-z0-9._-]+")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (layout.blob(DIGEST), f"docker/registry/v2/blobs/sha256/ab/{HEX}/data"),
        (layout.repository("team/app"), REPOSITORY),
        (layout.layer_link("team/app", DIGEST), f"{REPOSITORY}/_layers/sha256/{HEX}/link"),
        (layout.manifests("team/app"), f"{REPOSITORY}/_manifests"),
        (layout.revisions("team/app"), f"{REPOSITORY}/_manifests/revisions"),
        (
            layout.revision("team/app", DIGEST),
            f"{REPOSITORY}/_manifests/revisions/sha256/{HEX}",
        ),
        (
            layout.revision_link("team/app", DIGEST),
            f"{REPOSITORY}/_manifests/revisions/sha256/{HEX}/link",
        ),
        (
            layout.revision_media_type("team/app", DIGEST),
            f"{REPOSITORY}/_manifests/revisions/sha256/{HEX}/mediatype",
        ),
        (layout.tags("team/app"), f"{REPOSITORY}/_manifests/tags"),
        (layout.tag("team/app", "v1"), f"{REPOSITORY}/_manifests/tags/v1"),
        (layout.tag_current("team/app", "v1"), f"{REPOSITORY}/_manifests/tags/v1/current/link"),
        (
            layout.tag_index("team/app", "v1", DIGEST),
            f"{REPOSITORY}/_manifests/tags/v1/index/sha256/{HEX}/link",
        ),
        (layout.uploads("team/app"), f"{REPOSITORY}/_uploads"),
        (layout.upload("team/app", "u"), f"{REPOSITORY}/_uploads/u"),
        (layout.upload_data("team/app", "u"), f"{REPOSITORY}/_uploads/u/data"),
        (layout.upload_started("team/app", "u"), f"{REPOSITORY}/_uploads/u/startedat"),
        (layout.upload_hashed("team/app", "u"), f"{REPOSITORY}/_uploads/u/hashed"),
    ],
)
def test_things_lie_where_distribution_looks(path: str, expected: str) -> None:
    assert path == expected


@given(st.binary(), st.sampled_from(["sha256", "sha512"]))
def test_distribution_takes_every_component(content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    for path in (layout.blob(digest), layout.tag_index("a/b", "v1.0_x-y", digest)):
        assert all(COMPONENT.fullmatch(component) for component in path.split("/"))
