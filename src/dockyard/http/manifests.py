"""Manifests: end-3 (GET, HEAD), end-7 (PUT) and end-9 (DELETE)."""

from dockyard.core.manifests import MANIFEST_LIMIT, ManifestPush, StoredManifest
from dockyard.core.tags import UNCONDITIONAL, Condition
from dockyard.errors import (
    ManifestTooLargeError,
    ManifestUnacceptableError,
    ManifestUnknownError,
    TooManyTagsError,
    UnsupportedError,
)
from dockyard.http.blobs import is_known
from dockyard.http.messages import Headers, Request, Response
from dockyard.http.services import Services
from dockyard.oci import manifest as grammar, mediatype
from dockyard.oci.digest import Digest
from dockyard.oci.reference import parse_tag
from dockyard.protocol.conditions import Accept, parse_tags


TAGS_LIMIT = 100
"""Tags one PUT may name: the spec wants ten or more; each costs a few syncs."""

AMD64 = ("linux", "amd64")
"""The platform served to clients from before manifest lists."""


async def get(services: Services, request: Request) -> Response:
    """Answer with a manifest, or (HEAD) what there is to know of it."""
    name, reference = request.parameters["name"], request.parameters["reference"]
    by_tag = ":" not in reference
    if by_tag:
        digest = await services.tags.resolve(name, reference)
    else:
        digest = Digest.parse(reference)
    stored = await services.manifests.get(name, digest)
    stored = await _negotiate(services, request, stored, by_tag=by_tag)
    services.pulls.note(name, stored.digest)
    text = str(stored.digest)
    headers: Headers = [
        (b"Docker-Content-Digest", text.encode()),
        (b"Etag", f'"{text}"'.encode()),
    ]
    if is_known(request, stored.digest):
        return Response(304, headers)
    headers.append((b"Content-Type", stored.media_type.encode("latin-1", "replace")))
    headers.append((b"Content-Length", str(len(stored.content)).encode()))
    return Response(200, headers, stored.content)


async def put(services: Services, request: Request) -> Response:
    """Store a manifest, and point the tags to it that the URL names."""
    name, reference = request.parameters["name"], request.parameters["reference"]
    extra = request.queries("tag")
    if len(extra) > TAGS_LIMIT:
        raise TooManyTagsError(TAGS_LIMIT)
    tags = [parse_tag(tag) for tag in dict.fromkeys(extra)]
    promised = Digest.parse(reference) if ":" in reference else None
    push = ManifestPush(
        name=name,
        content=await _body(request),
        content_type=request.header("content-type") or "",
        digest=promised,
        tags=tags if promised else [reference, *tags],
        condition=_condition(request),
        client=request.client,
    )
    digest, manifest = await services.manifests.put(push)
    headers: Headers = [
        (b"Location", services.location(request, f"v2/{name}/manifests/{digest}")),
        (b"Docker-Content-Digest", str(digest).encode()),
        *((b"OCI-Tag", tag.encode()) for tag in tags),
    ]
    if manifest.subject is not None:
        headers.append((b"OCI-Subject", str(manifest.subject.digest).encode()))
    return Response(201, headers)


async def delete(services: Services, request: Request) -> Response:
    """Remove a manifest with its tags, or one tag."""
    if not services.settings.delete_enabled:
        raise UnsupportedError
    name, reference = request.parameters["name"], request.parameters["reference"]
    if ":" in reference:
        await services.manifests.delete(name, Digest.parse(reference))
    else:
        await services.tags.delete(name, reference)
    return Response(202, [(b"Content-Type", b"text/plain; charset=utf-8")])


async def _negotiate(
    services: Services, request: Request, stored: StoredManifest, *, by_tag: bool
) -> StoredManifest:
    """Return what the client can read: the manifest, or the child meant for older clients."""
    accept = Accept(request.headers("accept"))
    is_list = stored.media_type == mediatype.DOCKER_MANIFEST_LIST
    if is_list and by_tag and not accept.allows(stored.media_type):
        return await _child(services, request.parameters["name"], stored)
    if accept.is_absent or accept.allows(stored.media_type):
        return stored
    if stored.media_type == mediatype.OCI_MANIFEST:
        raise ManifestUnacceptableError(
            "OCI manifest found, but accept header does not support OCI manifests"
        )
    if stored.media_type == mediatype.OCI_INDEX:
        raise ManifestUnacceptableError(
            "OCI index found, but accept header does not support OCI indexes"
        )
    return stored


async def _child(services: Services, name: str, stored: StoredManifest) -> StoredManifest:
    parsed = grammar.parse(stored.content, stored.media_type)
    for child in parsed.children:
        if child.platform == AMD64:
            return await services.manifests.get(name, child.digest)
    raise ManifestUnknownError(str(stored.digest))


async def _body(request: Request) -> bytes:
    """Return the request's body, which is a manifest."""
    if (request.content_length or 0) > MANIFEST_LIMIT:
        raise ManifestTooLargeError(MANIFEST_LIMIT)
    body = bytearray()
    async for pieces in request.chunks():
        for piece in pieces:
            body += piece
        if len(body) > MANIFEST_LIMIT:
            raise ManifestTooLargeError(MANIFEST_LIMIT)
    return bytes(body)


def _condition(request: Request) -> Condition:
    match, none_match = request.listed("if-match"), request.listed("if-none-match")
    if match is None and none_match is None:
        return UNCONDITIONAL
    return Condition(
        match=None if match is None else parse_tags(match),
        none_match=None if none_match is None else parse_tags(none_match),
    )
