import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from dockyard.errors import ManifestInvalidError
from dockyard.oci import mediatype
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import (
    CONTAINERS_LIMIT,
    SCHEMA1_REMEDY,
    SIZE_LIMIT,
    Descriptor,
    Manifest,
    declared_type,
    inferred_type,
    parse,
    parse_stored,
    subject_of,
)


DIGEST = Digest.of(b"content")
DESCRIPTOR = {"mediaType": "application/vnd.example", "digest": str(DIGEST), "size": 7}
CHILD = DESCRIPTOR | {"platform": {"os": "linux", "architecture": "amd64"}}
IMAGE: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": mediatype.OCI_MANIFEST,
    "config": DESCRIPTOR,
    "layers": [DESCRIPTOR, DESCRIPTOR],
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": mediatype.OCI_INDEX,
    "manifests": [CHILD, DESCRIPTOR],
}
SCHEMA1: dict[str, Any] = {"schemaVersion": 1, "name": "a/b", "tag": "v1", "fsLayers": []}
FOREIGN = "application/vnd.example.thing"


def content(body: object) -> bytes:
    return json.dumps(body).encode()


def without(body: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != field}


def test_an_image_is_read() -> None:
    image = parse(content(IMAGE))
    described = Descriptor("application/vnd.example", DIGEST, 7)
    assert image.media_type == mediatype.OCI_MANIFEST
    assert image.is_image
    assert not image.is_index
    assert image.config == described
    assert image.layers == (described, described)
    assert image.children == ()
    assert image.subject is None
    assert image.annotations == {}


def test_an_index_is_read() -> None:
    index = parse(content(INDEX))
    assert index.media_type == mediatype.OCI_INDEX
    assert index.is_index
    assert not index.is_image
    assert index.config is None
    assert index.layers == ()
    assert [child.platform for child in index.children] == [("linux", "amd64"), None]


@pytest.mark.parametrize("media_type", sorted(mediatype.IMAGES))
def test_docker_and_oci_images_are_read_alike(media_type: str) -> None:
    image = parse(content(IMAGE | {"mediaType": media_type}), media_type)
    assert image.media_type == media_type
    assert len(image.layers) == 2


@pytest.mark.parametrize("media_type", sorted(mediatype.INDEXES))
def test_docker_lists_and_oci_indexes_are_read_alike(media_type: str) -> None:
    index = parse(content(INDEX | {"mediaType": media_type}), media_type)
    assert index.media_type == media_type
    assert len(index.children) == 2


class TestType:
    @pytest.mark.parametrize("content_type", sorted(mediatype.UNSPECIFIC))
    def test_the_body_says_it_when_the_header_does_not(self, content_type: str) -> None:
        assert parse(content(IMAGE), content_type).media_type == mediatype.OCI_MANIFEST

    @pytest.mark.parametrize("content_type", ["*/*", "json", "a b/c", "a/b/c", "\u00e4/b"])
    def test_a_header_that_is_no_media_type_says_nothing(self, content_type: str) -> None:
        assert parse(content(IMAGE), content_type).media_type == mediatype.OCI_MANIFEST

    def test_the_header_says_it_when_the_body_does_not(self) -> None:
        body = content(without(IMAGE, "mediaType"))
        assert parse(body, mediatype.DOCKER_MANIFEST).media_type == mediatype.DOCKER_MANIFEST

    def test_parameters_of_the_header_do_not_count(self) -> None:
        header = f"{mediatype.OCI_MANIFEST.upper()}; charset=utf-8"
        assert parse(content(IMAGE), header).media_type == mediatype.OCI_MANIFEST

    @pytest.mark.parametrize(
        ("body", "expected"),
        [(IMAGE, mediatype.OCI_MANIFEST), (INDEX, mediatype.OCI_INDEX)],
        ids=["image", "index"],
    )
    def test_the_fields_say_it_when_neither_does(self, body: dict[str, Any], expected: str) -> None:
        bare = content(without(body, "mediaType"))
        assert parse(bare).media_type == expected
        assert inferred_type(bare) == expected

    @pytest.mark.parametrize(
        "body", [{}, {"schemaVersion": 2}, {"layers": [], "config": 5}, {"manifests": {}}], ids=str
    )
    def test_nothing_says_it(self, body: dict[str, Any]) -> None:
        with pytest.raises(ManifestInvalidError, match="type is unknown; set its mediaType"):
            parse(content(body))
        assert inferred_type(content(body)) == ""

    def test_header_and_body_contradict_each_other(self) -> None:
        with pytest.raises(ManifestInvalidError, match="send the same value in both") as caught:
            parse(content(IMAGE), mediatype.DOCKER_MANIFEST)
        assert mediatype.OCI_MANIFEST in str(caught.value)
        assert mediatype.DOCKER_MANIFEST in str(caught.value)

    @pytest.mark.parametrize(
        "declared", ["x", "a/b\r\nSet-Cookie: c", "a/b; c=d", "a/\u0416", "a/" + "b" * 200]
    )
    def test_a_declared_type_that_does_not_fit_a_header_is_refused(self, declared: str) -> None:
        body = content({"mediaType": declared})
        with pytest.raises(ManifestInvalidError, match="is not a media type"):
            parse(body)
        assert declared_type(body) == ""


class TestSchema1:
    GUISES = (
        pytest.param(content(SCHEMA1), "", id="by-version"),
        pytest.param(content(SCHEMA1), mediatype.DOCKER_SCHEMA1, id="by-version-and-header"),
        pytest.param(
            content({"mediaType": mediatype.DOCKER_SCHEMA1_SIGNED}), "", id="by-declared-type"
        ),
        pytest.param(
            content(without(SCHEMA1, "schemaVersion")),
            mediatype.DOCKER_SCHEMA1_SIGNED,
            id="by-header",
        ),
    )

    @pytest.mark.parametrize(("body", "content_type"), GUISES)
    def test_is_refused_with_the_remedy(self, body: bytes, content_type: str) -> None:
        with pytest.raises(ManifestInvalidError) as caught:
            parse(body, content_type)
        assert str(caught.value) == SCHEMA1_REMEDY

    @pytest.mark.parametrize(
        "body", [SCHEMA1, {"mediaType": mediatype.DOCKER_SCHEMA1}], ids=["version", "type"]
    )
    def test_is_not_served_either(self, body: dict[str, Any]) -> None:
        with pytest.raises(ManifestInvalidError, match="skopeo copy --format v2s2"):
            declared_type(content(body))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="truncated"),
        pytest.param(b"{} {}", "not JSON", id="two-documents"),
        pytest.param(b"\xff\xfe", "not JSON", id="not-utf8"),
        pytest.param(b'{"a": "\xff"}', "not JSON", id="text-not-utf8"),
        pytest.param(content(IMAGE).decode().encode("utf-16"), "not JSON", id="utf-16"),
        pytest.param(b"\xef\xbb\xbf{}", "not JSON", id="byte-order-mark"),
        pytest.param(b'{"a": NaN}', "NaN is not JSON", id="nan"),
        pytest.param(b'{"a": -Infinity}', "-Infinity is not JSON", id="infinity"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", "not JSON", id="number-too-long"),
        pytest.param(b"[]", "not a JSON object", id="list"),
        pytest.param(b"null", "not a JSON object", id="null"),
        pytest.param(b'"text"', "not a JSON object", id="text"),
        pytest.param(b"[" * 50_000, "nested too deeply", id="deep-list"),
        pytest.param(b'{"a":' * 50_000, "nested too deeply", id="deep-object"),
        pytest.param(
            b"[" + b"[]," * CONTAINERS_LIMIT, "more than 100000 objects and lists", id="many-lists"
        ),
        pytest.param(
            b"{" * (CONTAINERS_LIMIT + 1), "more than 100000 objects and lists", id="many-objects"
        ),
    ],
)
def test_what_is_no_json_object_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(ManifestInvalidError, match=reason):
        parse(raw, mediatype.OCI_MANIFEST)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"mediaType": 5}, "'mediaType' is not text", id="type-number"),
        pytest.param({"mediaType": []}, "'mediaType' is not text", id="type-list"),
        pytest.param({"config": None}, "needs the field 'config'", id="config-null"),
        pytest.param({"config": []}, "'config' is not a descriptor", id="config-list"),
        pytest.param({"config": "x"}, "'config' is not a descriptor", id="config-text"),
        pytest.param({"layers": {}}, "'layers' is not a list", id="layers-object"),
        pytest.param({"layers": "x"}, "'layers' is not a list", id="layers-text"),
        pytest.param({"layers": [None]}, r"'layers\[0\]' is not a descriptor", id="layer-null"),
        pytest.param(
            {"layers": [DESCRIPTOR, 1]}, r"'layers\[1\]' is not a descriptor", id="layer-number"
        ),
        pytest.param({"subject": 1}, "'subject' is not a descriptor", id="subject-number"),
        pytest.param({"artifactType": 1}, "'artifactType' is not text", id="artifact-type"),
        pytest.param({"annotations": []}, "'annotations' are not texts", id="annotations-list"),
        pytest.param({"annotations": {"a": 1}}, "'annotations' are not", id="annotation-number"),
        pytest.param({"manifests": []}, "has no field 'manifests'", id="image-with-manifests"),
    ],
)
def test_an_image_with_a_wrong_field_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ManifestInvalidError, match=reason):
        parse(content(IMAGE | change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"digest": None}, "has the digest None", id="digest-null"),
        pytest.param({"digest": 5}, "has the digest 5", id="digest-number"),
        pytest.param({"digest": "sha256:zz"}, "can't be verified", id="digest-malformed"),
        pytest.param({"digest": "sha384:" + "a" * 96}, "can't be verified", id="digest-unknown"),
        pytest.param({"size": None}, "has the size None", id="size-null"),
        pytest.param({"size": "7"}, "has the size '7'", id="size-text"),
        pytest.param({"size": True}, "has the size True", id="size-boolean"),
        pytest.param({"size": 7.0}, "has the size 7.0", id="size-fraction"),
        pytest.param({"size": -1}, "has the size -1", id="size-negative"),
        pytest.param({"size": SIZE_LIMIT}, "has the size", id="size-huge"),
        pytest.param({"size": 10**4000}, "has the size", id="size-absurd"),
        pytest.param({"urls": "http://a"}, "urls that are not a list", id="urls-text"),
        pytest.param({"urls": {"a": 1}}, "urls that are not a list", id="urls-object"),
        pytest.param({"urls": [1]}, "urls that are not a list", id="url-number"),
        pytest.param({"mediaType": 5}, "'mediaType' is not text", id="type-number"),
        pytest.param({"platform": {"os": 1}}, "'os' is not text", id="platform-number"),
    ],
)
@pytest.mark.parametrize("place", ["config", "layers", "subject", "manifests"])
def test_a_wrong_descriptor_is_refused_wherever_it_is(
    place: str, change: dict[str, Any], reason: str
) -> None:
    wrong = DESCRIPTOR | change
    body = INDEX if place == "manifests" else IMAGE
    value = [wrong] if place in {"layers", "manifests"} else wrong
    with pytest.raises(ManifestInvalidError, match=reason):
        parse(content(body | {place: value}))


@pytest.mark.parametrize("field", ["config", "layers"])
@pytest.mark.parametrize("media_type", sorted(mediatype.INDEXES))
def test_an_index_that_is_an_image_too_is_refused(media_type: str, field: str) -> None:
    body = INDEX | {"mediaType": media_type, field: IMAGE[field]}
    with pytest.raises(ManifestInvalidError, match=f"has no field '{field}'"):
        parse(content(body))


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 0), ("size", SIZE_LIMIT - 1), ("urls", None), ("urls", []), ("platform", "x")],
    ids=str,
)
def test_a_descriptor_at_its_limits_is_read(field: str, value: object) -> None:
    config = parse(content(IMAGE | {"config": DESCRIPTOR | {field: value}})).config
    assert config is not None
    assert config.digest == DIGEST


@pytest.mark.parametrize("field", ["layers", "subject", "annotations", "artifactType"])
def test_a_field_that_is_null_is_not_there(field: str) -> None:
    assert parse(content(IMAGE | {field: None})) == parse(content(without(IMAGE, field)))


def test_urls_and_annotations_are_read() -> None:
    layer = DESCRIPTOR | {"urls": ["https://a/b", "https://c"]}
    image = parse(content(IMAGE | {"layers": [layer], "annotations": {"k": "v"}}))
    assert image.layers[0].urls == ("https://a/b", "https://c")
    assert image.annotations == {"k": "v"}


@pytest.mark.parametrize(
    "change", [{"digest": "x" * 10_000}, {"size": 10**4000}], ids=["digest", "size"]
)
def test_a_message_repeats_only_so_much(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalidError) as caught:
        parse(content(IMAGE | {"config": DESCRIPTOR | change}))
    assert len(str(caught.value)) < 500
    assert "\u2026" in str(caught.value)


def test_fields_we_do_not_know_are_passed_over() -> None:
    body = IMAGE | {"x-anything": [1, {"deep": None}]}
    assert parse(content(body)) == parse(content(IMAGE))


def test_of_a_field_given_twice_the_last_counts() -> None:
    raw = b'{"mediaType": "a/b", ' + content(IMAGE)[1:]
    assert parse(raw).media_type == mediatype.OCI_MANIFEST


class TestReferrers:
    """What the referrers API reports of a manifest."""

    def test_the_subject(self) -> None:
        for body in (IMAGE, INDEX):
            subject = parse(content(body | {"subject": DESCRIPTOR})).subject
            assert subject is not None
            assert subject.digest == DIGEST

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            pytest.param(IMAGE | {"artifactType": "a/b"}, "a/b", id="image-says-it"),
            pytest.param(IMAGE, "application/vnd.example", id="config-says-it"),
            pytest.param(INDEX | {"artifactType": "a/b"}, "a/b", id="index-says-it"),
            pytest.param(INDEX, "", id="index-does-not"),
        ],
    )
    def test_the_artifact_type(self, body: dict[str, Any], expected: str) -> None:
        assert parse(content(body)).artifact_type == expected


class TestForeign:
    """Manifests of types that are none of ours."""

    @pytest.mark.parametrize(
        "raw",
        [b"", b"\x00\xff not JSON", b"[1, 2]", b"{", b"[" * 100_000],
        ids=["empty", "binary", "list", "truncated", "deep"],
    )
    def test_may_be_anything(self, raw: bytes) -> None:
        manifest = parse(raw, FOREIGN)
        assert manifest.media_type == FOREIGN
        assert manifest.config is None
        assert manifest.layers == ()
        assert declared_type(raw) == ""

    def test_name_content_by_what_looks_like_a_descriptor(self) -> None:
        body = {
            "config": DESCRIPTOR,
            "layers": [DESCRIPTOR, "not one", {"digest": "neither"}],
            "blobs": [DESCRIPTOR],
            "manifests": [DESCRIPTOR],
        }
        manifest = parse(content(body), FOREIGN)
        assert manifest.config is not None
        assert len(manifest.layers) == 3
        assert not manifest.is_image
        assert not manifest.is_index

    def test_need_no_descriptors_where_ours_have_them(self) -> None:
        manifest = parse(content({"config": 5, "layers": {}, "mediaType": FOREIGN}))
        assert manifest.config is None
        assert manifest.layers == ()
        assert manifest.artifact_type == ""

    def test_may_name_a_subject(self) -> None:
        body = {"mediaType": FOREIGN, "subject": DESCRIPTOR, "config": DESCRIPTOR}
        manifest = parse(content(body))
        assert manifest.subject is not None
        assert manifest.artifact_type == "application/vnd.example"

    def test_contradicting_themselves_are_refused(self) -> None:
        with pytest.raises(ManifestInvalidError, match="send the same value"):
            parse(content({"mediaType": "application/vnd.other"}), FOREIGN)


@pytest.mark.parametrize(
    ("body", "expected"),
    [(IMAGE, mediatype.OCI_MANIFEST), (without(IMAGE, "mediaType"), ""), ({"mediaType": 5}, "")],
    ids=["declared", "not-declared", "not-text"],
)
def test_the_declared_type_is_the_bodys_own(body: dict[str, Any], expected: str) -> None:
    assert declared_type(content(body)) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(str(DIGEST)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["digest", "size", "mediaType", "urls", "platform", "os", "x"]), inner
        )
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations"]
)
TYPES = st.sampled_from(
    ["", FOREIGN, *sorted(mediatype.IMAGES | mediatype.INDEXES | mediatype.SCHEMA1)]
)


@given(st.sampled_from([IMAGE, INDEX, {}]), st.dictionaries(FIELDS, JSON), TYPES)
def test_a_body_of_any_shape_fails_only_as_stated(
    body: dict[str, Any], changes: dict[str, Any], content_type: str
) -> None:
    raw = content(body | changes)
    try:
        manifest = parse(raw, content_type)
    except ManifestInvalidError:
        return
    assert mediatype.is_media_type(manifest.media_type)


@given(st.binary(), TYPES)
def test_bytes_of_any_kind_fail_only_as_stated(raw: bytes, content_type: str) -> None:
    try:
        manifest = parse(raw, content_type)
    except ManifestInvalidError:
        return
    assert mediatype.is_media_type(manifest.media_type)


@given(st.sampled_from([IMAGE, INDEX, {}]), st.dictionaries(FIELDS, JSON), st.none() | st.binary())
def test_what_is_stored_is_read_once_and_the_same(
    body: dict[str, Any], changes: dict[str, Any], raw: bytes | None
) -> None:
    raw = content(body | changes) if raw is None else raw

    def in_two_steps() -> Manifest | None:
        declared = declared_type(raw)
        return parse(raw, declared) if declared else None

    assert outcome(lambda: parse_stored(raw)) == outcome(in_two_steps)


def outcome(read: Callable[[], Manifest | None]) -> Manifest | str | None:
    """Return what `read` returns, or the message with which it fails."""
    try:
        return read()
    except ManifestInvalidError as error:
        return str(error)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b'{"subject": {"digest": "%b"}}', True),
        (b'{"s\\u0075bject": {"digest": "%b"}, "layers": 7}', True),
        (b'{"annotations": {"subject": "%b"}}', False),
        (b'{"subject": {"digest": "sha256:%b"}}', False),
        (b'{"subject": {"digest": 7}, "of": "%b"}', False),
        (b'{"subject": "%b"}', False),
        (b'{"subject": null, "of": "%b"}', False),
        (b'["subject", "%b"]', False),
        (b'"subject" %b', False),
        (b"%b", False),
    ],
)
def test_the_subject_is_read_whatever_else_there_is(content: bytes, *, named: bool) -> None:
    digest = Digest.of(b"subject")
    expected = digest if named else None
    assert subject_of(content.replace(b"%b", str(digest).encode())) == expected
