"""Manifests: what a registry has to read of them.

A manifest's bytes are kept as they came. Reading is strict about what we act on (digests, sizes,
types of fields) and blind to everything else.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from dockyard.errors import DigestInvalidError, ManifestInvalidError
from dockyard.oci import mediatype
from dockyard.oci.digest import Digest


Json = Mapping[str, object]

SCHEMA1_REMEDY: Final = (
    "Docker image manifest version 2, schema 1 is not supported; push the image again with "
    "Docker 1.10 or later, or convert it with `skopeo copy --format v2s2`"
)

SIZE_LIMIT: Final = 1 << 62
"""Bytes a descriptor may claim; more can't be a file."""

CONTAINERS_LIMIT: Final = 100_000
"""Objects and lists a manifest may have: twice the descriptors that fit into 4 MiB. Otherwise 4 MiB
of empty lists were 150 MB of memory and seconds of work."""

SHOWN_LIMIT: Final = 200
"""Characters of a manifest's value that a message repeats: the value may have millions."""

_SUBJECT: Final = b'"subject"'
_ESCAPE: Final = b"\\u"
"""Without either, JSON has no field called ``subject``, and need not be read to tell so."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content.

    Attributes:
        media_type: the content's type, or an empty text.
        digest: its address.
        size: its length in bytes.
        urls: where else it may be fetched.
        platform: ``(os, architecture)`` of a child of an index, if it says so.
    """

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    platform: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says.

    Attributes:
        media_type: its own type.
        config: the configuration of an image or artifact.
        layers: its layers, or whatever content a manifest of unknown type names.
        children: the manifests of an index.
        subject: the manifest it refers to.
        artifact_type: as the referrers API reports it; empty if there is none.
        annotations: as it has them.
    """

    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str
    annotations: Mapping[str, str]

    @property
    def is_index(self) -> bool:
        """Whether this is an OCI index or a Docker manifest list."""
        return self.media_type in mediatype.INDEXES

    @property
    def is_image(self) -> bool:
        """Whether this is an OCI or Docker image manifest, artifacts included."""
        return self.media_type in mediatype.IMAGES


def parse(content: bytes, content_type: str = "") -> Manifest:
    """Return what the manifest in `content` says.

    Args:
        content: the manifest's bytes.
        content_type: the type its sender or the storage gives it; may be empty.

    Raises:
        ManifestInvalidError: it can't be read, contradicts itself, or has no type at all.
    """
    given = mediatype.without_parameters(content_type)
    if given in mediatype.UNSPECIFIC or not mediatype.is_media_type(given):
        given = ""
    return _understand(_load_lenient(content) if _is_foreign(given) else _load(content), given)


def parse_stored(content: bytes) -> Manifest | None:
    """Return what a manifest that is in the storage says; `None` if it does not say its type.

    The same as ``parse(content, declared_type(content))``, reading the JSON once.

    Raises:
        ManifestInvalidError: it can't be read or contradicts itself, or is of schema 1.
    """
    body = _load_lenient(content)
    declared = _declared_leniently(body)
    return _understand(body, mediatype.without_parameters(declared)) if declared else None


def subject_of(content: bytes) -> Digest | None:
    """Return the subject that the bytes of a manifest name, whether or not the rest can be read."""
    if _SUBJECT not in content and _ESCAPE not in content:
        return None
    value = _load_lenient(content).get("subject")
    digest = value.get("digest") if isinstance(value, dict) else None
    try:
        return Digest.parse(digest) if isinstance(digest, str) else None
    except DigestInvalidError:
        return None


def _understand(body: Json, given: str) -> Manifest:
    """Return what a manifest says, whose sender or storage gives it the type `given`, if any."""
    declared = _declared(body)
    if (
        declared in mediatype.SCHEMA1
        or given in mediatype.SCHEMA1
        or body.get("schemaVersion") == 1
    ):
        raise ManifestInvalidError(SCHEMA1_REMEDY)
    if declared and given and mediatype.without_parameters(declared) != given:
        raise ManifestInvalidError(
            f"Content-Type is {given!r} but the manifest's mediaType is {declared!r}; "
            "send the same value in both"
        )
    media_type = declared or given or _infer(body)
    if not media_type:
        raise ManifestInvalidError(
            "the manifest's type is unknown; set its mediaType field or the Content-Type header"
        )
    if media_type in mediatype.IMAGES:
        return _image(body, media_type)
    if media_type in mediatype.INDEXES:
        return _index(body, media_type)
    return _other(body, media_type)


def shown(value: object) -> str:
    """Return `value` as a message repeats it, cut to `SHOWN_LIMIT` characters."""
    text = repr(value)
    return text if len(text) <= SHOWN_LIMIT else f"{text[:SHOWN_LIMIT]}…"


def _is_foreign(media_type: str) -> bool:
    """Return whether a type is none of ours, so that its bytes may be anything."""
    ours = mediatype.IMAGES | mediatype.INDEXES | mediatype.SCHEMA1
    return media_type != "" and media_type not in ours


def declared_type(content: bytes) -> str:
    """Return the ``mediaType`` of a manifest that is in the storage; empty if it has none.

    Empty as well if the bytes are no JSON object: an unknown kind of manifest may be anything.

    Raises:
        ManifestInvalidError: it is of schema 1, which is no longer served.
    """
    return _declared_leniently(_load_lenient(content))


def _declared_leniently(body: Json) -> str:
    value = body.get("mediaType")
    declared = value if isinstance(value, str) else ""
    if declared in mediatype.SCHEMA1 or body.get("schemaVersion") == 1:
        raise ManifestInvalidError(SCHEMA1_REMEDY)
    return declared if mediatype.is_media_type(declared) else ""


def _declared(body: Json) -> str:
    declared = _text(body, "mediaType")
    if declared and not mediatype.is_media_type(declared):
        raise ManifestInvalidError(
            f"the manifest's mediaType {shown(declared)} is not a media type"
        )
    return declared


def inferred_type(content: bytes) -> str:
    """Return the type of a manifest without ``mediaType``, from its fields, or an empty text."""
    return _infer(_load_lenient(content))


def _infer(body: Json) -> str:
    if isinstance(body.get("manifests"), list):
        return mediatype.OCI_INDEX
    if isinstance(body.get("config"), dict) and isinstance(body.get("layers"), list):
        return mediatype.OCI_MANIFEST
    return ""


def _load_lenient(content: bytes) -> Json:
    try:
        return _load(content)
    except ManifestInvalidError:
        return {}


def _load(content: bytes) -> Json:
    if content.count(b"{") + content.count(b"[") > CONTAINERS_LIMIT:
        raise ManifestInvalidError(
            f"the manifest has more than {CONTAINERS_LIMIT} objects and lists"
        )
    try:
        body = _DECODER.decode(content.decode("utf-8"))
    except RecursionError as error:
        raise ManifestInvalidError("the manifest is nested too deeply") from error
    except ValueError as error:  # JSON, UTF-8 and numbers beyond Python's limit alike
        raise ManifestInvalidError(f"the manifest is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ManifestInvalidError("the manifest is not a JSON object")
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
"""Made once: making it takes as long as reading a small manifest."""


def _image(body: Json, media_type: str) -> Manifest:
    if "manifests" in body:
        raise ManifestInvalidError(f"a manifest of type {media_type} has no field 'manifests'")
    config = _descriptor(body, "config")
    if config is None:
        raise ManifestInvalidError(f"a manifest of type {media_type} needs the field 'config'")
    return Manifest(
        media_type=media_type,
        config=config,
        layers=_descriptors(body, "layers"),
        children=(),
        subject=_descriptor(body, "subject"),
        artifact_type=_text(body, "artifactType") or config.media_type,
        annotations=_annotations(body),
    )


def _index(body: Json, media_type: str) -> Manifest:
    for field in ("config", "layers"):
        if field in body:
            raise ManifestInvalidError(f"a manifest of type {media_type} has no field {field!r}")
    return Manifest(
        media_type=media_type,
        config=None,
        layers=(),
        children=_descriptors(body, "manifests"),
        subject=_descriptor(body, "subject"),
        artifact_type=_text(body, "artifactType"),
        annotations=_annotations(body),
    )


def _other(body: Json, media_type: str) -> Manifest:
    """Read a manifest of unknown type: what looks like a descriptor is taken for one."""
    config = _lenient(body.get("config"))
    layers = [
        found
        for field in ("layers", "blobs", "manifests")
        for item in _items(body.get(field))
        if (found := _lenient(item)) is not None
    ]
    return Manifest(
        media_type=media_type,
        config=config,
        layers=tuple(layers),
        children=(),
        subject=_descriptor(body, "subject"),
        artifact_type=_text(body, "artifactType") or (config.media_type if config else ""),
        annotations=_annotations(body),
    )


def _lenient(value: object) -> Descriptor | None:
    try:
        return _parse_descriptor(value, "content")
    except ManifestInvalidError:  # of unknown type: what it means by this is its own affair
        return None


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _descriptor(body: Json, field: str) -> Descriptor | None:
    value = body.get(field)
    return None if value is None else _parse_descriptor(value, field)


def _descriptors(body: Json, field: str) -> tuple[Descriptor, ...]:
    value = body.get(field)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ManifestInvalidError(f"the manifest's {field!r} is not a list")
    return tuple(
        _parse_descriptor(item, f"{field}[{position}]") for position, item in enumerate(value)
    )


def _parse_descriptor(value: object, field: str) -> Descriptor:
    if not isinstance(value, dict):
        raise ManifestInvalidError(f"the manifest's {field!r} is not a descriptor")
    digest, size = value.get("digest"), value.get("size")
    try:
        parsed = Digest.parse(digest if isinstance(digest, str) else "")
    except DigestInvalidError as error:
        raise ManifestInvalidError(
            f"the manifest's {field!r} has the digest {shown(digest)}, which can't be verified"
        ) from error
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < SIZE_LIMIT:
        raise ManifestInvalidError(f"the manifest's {field!r} has the size {shown(size)}")
    urls = value.get("urls") or ()
    if not isinstance(urls, list | tuple) or not all(isinstance(url, str) for url in urls):
        raise ManifestInvalidError(f"the manifest's {field!r} has urls that are not a list of text")
    return Descriptor(_text(value, "mediaType"), parsed, size, tuple(urls), _platform(value))


def _platform(value: Json) -> tuple[str, str] | None:
    platform = value.get("platform")
    if not isinstance(platform, dict):
        return None
    return _text(platform, "os"), _text(platform, "architecture")


def _text(body: Json, field: str) -> str:
    value = body.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ManifestInvalidError(f"the manifest's {field!r} is not text")
    return value


def _annotations(body: Json) -> Mapping[str, str]:
    value = body.get("annotations")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ManifestInvalidError("the manifest's 'annotations' are not texts by name")
    return value
