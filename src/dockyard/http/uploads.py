"""Uploads: end-4 (POST), end-5 (PATCH), end-6 (PUT), end-11, end-13 (GET), end-14 (DELETE)."""

from dockyard.auth.actions import Action
from dockyard.core.uploads import Upload
from dockyard.errors import DigestMissingError, SizeMismatchError, UploadUnknownError
from dockyard.http.messages import Headers, Request, Response
from dockyard.http.services import Services
from dockyard.oci.digest import DEFAULT_ALGORITHM, Digest
from dockyard.oci.reference import is_name
from dockyard.protocol.location import UploadState, parse_upload
from dockyard.protocol.ranges import parse_chunk, render_progress


CHUNK_MIN_LENGTH = b"1"
"""Bytes of a chunk, at least: there is no lower limit, and a client that asks is told so."""


async def begin(services: Services, request: Request) -> Response:
    """Begin an upload; or mount a blob, or take it whole, where the query says so."""
    name = request.parameters["name"]
    mount = request.query("mount")
    if mount is not None:
        digest = Digest.parse(mount)
        source = request.query("from")
        if _may_mount(request, source) and await services.blobs.mount(
            name, digest, source, request.client
        ):
            return _created(services, request, name, digest)
    promised = request.query("digest")
    if promised is not None and mount is None:
        digest = Digest.parse(promised)
        await services.uploads.store(name, digest, request.chunks(), request.client)
        return _created(services, request, name, digest)
    algorithm = request.query("digest-algorithm") or DEFAULT_ALGORITHM
    upload = await services.uploads.begin(name, algorithm, request.client)
    headers = _progress(services, request, upload, 0)
    headers.append((b"OCI-Chunk-Min-Length", CHUNK_MIN_LENGTH))
    return Response(202, headers)


async def status(services: Services, request: Request) -> Response:
    """Tell how much of an upload has arrived."""
    upload, _ = _upload(request)
    return Response(204, _progress(services, request, upload, await services.uploads.size(upload)))


async def receive(services: Services, request: Request) -> Response:
    """Append a chunk to an upload."""
    upload, offset = _upload(request)
    size = await services.uploads.receive(upload, request.chunks(), _start(request, offset))
    return Response(202, _progress(services, request, upload, size))


async def finish(services: Services, request: Request) -> Response:
    """Append the last chunk, if there is one, and make the upload a blob."""
    upload, offset = _upload(request)
    promised = request.query("digest")
    if promised is None:
        raise DigestMissingError
    digest = Digest.parse(promised)
    start = _start(request, offset)
    await services.uploads.finish(upload, digest, request.chunks(), start)
    return _created(services, request, upload.name, digest)


async def cancel(services: Services, request: Request) -> Response:
    """Give an upload up."""
    upload, _ = _upload(request)
    await services.uploads.cancel(upload)
    return Response(204)


def _may_mount(request: Request, source: str | None) -> bool:
    """Return whether a blob may be taken from `source`, or from anywhere if that is `None`.

    Where it may not, the mount becomes an upload: what is in a repository that the client can't
    pull from, it does not learn.
    """
    asker = request.asker
    if source is None:
        return asker is None or asker.may_everything
    return is_name(source) and (asker is None or asker.may(Action.PULL, source))


def _upload(request: Request) -> tuple[Upload, int | None]:
    """Return the upload a request is for, and where its URL says that it ends."""
    text = request.parameters["upload"]
    state = parse_upload(text)
    if state is None:
        raise UploadUnknownError(text)
    name, client = request.parameters["name"], request.client
    return Upload(name, state.identifier, state.algorithm, client), state.offset


def _start(request: Request, offset: int | None) -> int | None:
    """Return the offset at which the body belongs, as far as the client says.

    A ``Content-Range`` counts more than the URL, which an older response may have given.
    """
    header = request.header("content-range")
    if header is None:
        return offset
    chunk = parse_chunk(header)
    length = request.content_length
    if length is not None and length != len(chunk):
        raise SizeMismatchError(expected=len(chunk), received=length)
    return chunk.start


def _progress(services: Services, request: Request, upload: Upload, size: int) -> Headers:
    state = UploadState(upload.identifier, size, upload.algorithm)
    path = f"v2/{upload.name}/blobs/uploads/{state.render()}"
    return [
        (b"Location", services.location(request, path)),
        (b"Range", render_progress(size).encode()),
        (b"Docker-Upload-Uuid", upload.identifier.encode()),
    ]


def _created(services: Services, request: Request, name: str, digest: Digest) -> Response:
    return Response(
        201,
        [
            (b"Location", services.location(request, f"v2/{name}/blobs/{digest}")),
            (b"Docker-Content-Digest", str(digest).encode()),
        ],
    )
