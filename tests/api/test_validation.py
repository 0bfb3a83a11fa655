"""What a registry takes: the sections `validation` and `policy` of the configuration."""

import re

import pytest

from dockyard.core.policy import Children, Policy
from dockyard.oci import mediatype
from tests.api.registry import MakeRegistry, Registry
from tests.parts.images import (
    OCI_EMPTY,
    Content,
    Image,
    artifact,
    digest_of,
    image,
    index,
    manifest,
)


NAME = "team/app"
AMD = image("amd", platform="linux/amd64")
ARM = image("arm", platform="linux/arm64")
INDEX = index([AMD, ARM])
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
PLUGIN = "application/vnd.docker.plugin.v1+json"


def with_urls(*urls: str, layer_type: str = FOREIGN) -> Image:
    """Return an image of one layer that is not pushed, but may be had at `urls`."""
    config = image("base").blobs[0]
    layer = {
        "mediaType": layer_type,
        "digest": digest_of(b"elsewhere"),
        "size": 9,
        "urls": list(urls),
    }
    top = manifest(mediatype.OCI_MANIFEST, config=config.descriptor(), layers=[layer])
    return Image(top, (config,))


def with_config(config_type: str, *, docker: bool = False) -> Image:
    config = Content(config_type, b"{}")
    kind = mediatype.DOCKER_MANIFEST if docker else mediatype.OCI_MANIFEST
    return Image(manifest(kind, config=config.descriptor(), layers=[]), (config,))


async def push(registry: Registry, top: Image) -> tuple[int, str]:
    """Push `top` without what is below it; return the status and, if it is refused, why."""
    for blob in top.blobs:
        await registry.push_blob(NAME, blob.body)
    answer = await registry.put_manifest(NAME, "v1", top.manifest.body, top.manifest.media_type)
    return answer.status, "" if answer.status == 201 else answer.errors()[0]["message"]


class TestUrls:
    HTTPS = "https://store.example.com/layer"
    HTTP = "http://other.example.org/layer"

    @pytest.mark.parametrize(
        ("allow", "deny", "urls", "taken"),
        [
            pytest.param([], [], [HTTPS, HTTP], True, id="no-rule"),
            pytest.param(["^https://store"], [], [HTTPS], True, id="allowed"),
            pytest.param(["^https://store"], [], [HTTPS, HTTP], False, id="one-not-allowed"),
            pytest.param(["^https://store", "other"], [], [HTTPS, HTTP], True, id="each-by-one"),
            pytest.param(["store"], [], [HTTPS], True, id="not-anchored"),
            pytest.param([], ["other"], [HTTPS], True, id="not-denied"),
            pytest.param([], ["other"], [HTTPS, HTTP], False, id="one-denied"),
            pytest.param(["."], ["store"], [HTTPS], False, id="allowed-and-denied"),
            pytest.param(["x^"], [], [], True, id="none-to-check"),
        ],
    )
    async def test_patterns_decide(
        self,
        make: MakeRegistry,
        allow: list[str],
        deny: list[str],
        urls: list[str],
        *,
        taken: bool,
    ) -> None:
        policy = Policy(
            allow_urls=[re.compile(pattern) for pattern in allow],
            deny_urls=[re.compile(pattern) for pattern in deny],
            sparse=True,
        )
        status, why = await push(make(policy=policy), with_urls(*urls))
        assert status == (201 if taken else 400)
        assert taken or "validation.manifests.urls" in why

    @pytest.mark.parametrize(
        "url", ["ftp://a/b", "file:///etc/passwd", "//a/b", "a", "", "https://a/b#c"]
    )
    async def test_only_addresses_of_the_web_are_taken(self, registry: Registry, url: str) -> None:
        status, why = await push(registry, with_urls(self.HTTPS, url))
        assert status == 400
        assert repr(url) in why

    async def test_switched_off_they_are_not_looked_at(self, make: MakeRegistry) -> None:
        policy = Policy(enabled=False, allow_urls=[re.compile("never")])
        status, _ = await push(make(policy=policy), with_urls("ftp://a/b"))
        assert status == 201

    async def test_a_layer_of_the_usual_kind_must_be_there_all_the_same(
        self, registry: Registry
    ) -> None:
        layer_type = "application/vnd.oci.image.layer.v1.tar+gzip"
        status, _ = await push(registry, with_urls(self.HTTPS, layer_type=layer_type))
        assert status == 400


class TestChildren:
    @pytest.mark.parametrize(
        ("policy", "there", "taken"),
        [
            pytest.param(Policy(), [AMD, ARM], True, id="all-and-all-there"),
            pytest.param(Policy(), [AMD], False, id="all-and-one-missing"),
            pytest.param(Policy(children=Children.NONE), [], True, id="none"),
            pytest.param(Policy(enabled=False), [], True, id="switched-off"),
            pytest.param(Policy(sparse=True), [], True, id="sparse"),
            pytest.param(
                Policy(children=Children.LISTED, platforms=frozenset({("linux", "amd64")})),
                [AMD],
                True,
                id="listed-is-there",
            ),
            pytest.param(
                Policy(children=Children.LISTED, platforms=frozenset({("linux", "amd64")})),
                [ARM],
                False,
                id="listed-is-missing",
            ),
            pytest.param(Policy(children=Children.LISTED), [], True, id="nothing-listed"),
        ],
    )
    async def test_which_must_be_there(
        self, make: MakeRegistry, policy: Policy, there: list[Image], *, taken: bool
    ) -> None:
        registry = make(policy=policy)
        for child in there:
            await registry.push(NAME, child)
        status, _ = await push(registry, INDEX)
        assert status == (201 if taken else 400)

    async def test_an_index_with_a_child_missing_is_served(self, make: MakeRegistry) -> None:
        registry = make(policy=Policy(sparse=True))
        await push(registry, INDEX)
        assert (await registry.manifest(NAME, "v1")).body == INDEX.manifest.body
        (await registry.manifest(NAME, ARM.digest)).refused(404, "MANIFEST_UNKNOWN")


class TestSparse:
    async def test_an_image_whose_layers_were_never_pushed(self, make: MakeRegistry) -> None:
        bare = Image(AMD.manifest)
        assert (await push(make(), bare))[0] == 400
        assert (await push(make(policy=Policy(enabled=False)), bare))[0] == 400
        assert (await push(make(policy=Policy(sparse=True)), bare))[0] == 201


class TestClasses:
    """`policy.repository.classes`."""

    IMAGE_TYPES = (
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    )

    @pytest.mark.parametrize(
        ("classes", "config_type", "denied"),
        [
            *(pytest.param({"image"}, kind, None, id=kind) for kind in IMAGE_TYPES),
            pytest.param({"image"}, PLUGIN, "plugin", id="plugin-not-taken"),
            pytest.param({"plugin"}, PLUGIN, None, id="plugin"),
            pytest.param({"plugin"}, IMAGE_TYPES[0], "image", id="image-not-taken"),
            pytest.param({"image", "plugin"}, PLUGIN, None, id="both"),
            pytest.param({"image"}, OCI_EMPTY, OCI_EMPTY, id="artifact-not-taken"),
            pytest.param({OCI_EMPTY}, OCI_EMPTY, None, id="artifact-by-its-type"),
            pytest.param(set(), "a/b", None, id="all"),
        ],
    )
    async def test_content_of_another_class_is_denied(
        self, make: MakeRegistry, classes: set[str], config_type: str, denied: str | None
    ) -> None:
        registry = make(policy=Policy(classes=frozenset(classes)))
        status, why = await push(registry, with_config(config_type))
        if denied is None:
            assert status == 201
            return
        assert status == 403
        assert repr(denied) in why
        top = with_config(config_type)
        answer = await registry.put_manifest(NAME, "v1", top.manifest.body)
        answer.refused(403, "DENIED")

    async def test_an_index_has_no_class(self, make: MakeRegistry) -> None:
        registry = make(policy=Policy(classes=frozenset({"image"})))
        assert (await push(registry, index([])))[0] == 201

    async def test_it_counts_with_validation_off(self, make: MakeRegistry) -> None:
        policy = Policy(enabled=False, classes=frozenset({"image"}))
        assert (await push(make(policy=policy), artifact("x")))[0] == 403
