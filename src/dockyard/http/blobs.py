"""Blobs: end-2 (GET, HEAD) and end-10 (DELETE)."""

from dockyard.core.blobs import Blob
from dockyard.errors import UnsupportedError
from dockyard.http.messages import Headers, Request, Response
from dockyard.http.services import Services
from dockyard.oci.digest import Digest
from dockyard.protocol.conditions import ANY, parse_tags
from dockyard.protocol.ranges import parse_download
from dockyard.storage import layout


ACCEPTS = "x-sendfile-type"
ACCEL = "X-Accel-Redirect"
"""By this field and value a proxy in front says that it sends files itself; it is also the answer's
field that names the file. Who comes by another way gets the bytes from us. Source: nginx; Rack."""

CACHE_CONTROL = b"max-age=31536000"
"""A year, in seconds: a blob's bytes never change."""


async def get(services: Services, request: Request) -> Response:
    """Answer with a blob, the part of it asked for, or (HEAD) what there is to know of it."""
    digest = Digest.parse(request.parameters["digest"])
    # Who asks by HEAD is about to push, and relies on the answer; who asks by GET has the bytes.
    name = request.parameters["name"]
    if request.method == "HEAD":
        blob = await services.blobs.tell(name, digest, request.client)
    else:
        blob = await services.blobs.open(name, digest)
    headers: Headers = [
        (b"Docker-Content-Digest", str(digest).encode()),
        (b"Etag", f'"{digest}"'.encode()),
        (b"Cache-Control", CACHE_CONTROL),
        (b"Accept-Ranges", b"bytes"),
    ]
    if is_known(request, digest):
        blob.close()
        return Response(304, headers)
    headers.append((b"Content-Type", b"application/octet-stream"))
    if request.method == "HEAD":
        blob.close()
        return Response(200, [*headers, (b"Content-Length", str(blob.size).encode())])
    return _transfer(services, request, blob, headers)


def _transfer(services: Services, request: Request, blob: Blob, headers: Headers) -> Response:
    """Answer with the bytes of a blob that were asked for, or let the proxy do that."""
    if services.settings.accel_redirect and request.header(ACCEPTS) == ACCEL:
        blob.close()
        where = services.settings.accel_redirect + blob.path.removeprefix(f"{layout.BLOBS}/")
        return Response(200, [*headers, (ACCEL.encode(), where.encode())])
    wanted = parse_download(_range(request, blob.digest), blob.size)
    if wanted is None:
        headers.append((b"Content-Length", str(blob.size).encode()))
        return Response(200, headers, stream=(blob, range(blob.size)))
    if not wanted:
        blob.close()
        return Response(416, [(b"Content-Range", f"bytes */{blob.size}".encode())])
    headers.append((b"Content-Length", str(len(wanted)).encode()))
    described = f"bytes {wanted.start}-{wanted.stop - 1}/{blob.size}"
    headers.append((b"Content-Range", described.encode()))
    return Response(206, headers, stream=(blob, wanted))


async def delete(services: Services, request: Request) -> Response:
    """Take a blob from a repository."""
    if not services.settings.delete_enabled:
        raise UnsupportedError
    digest = Digest.parse(request.parameters["digest"])
    await services.blobs.unlink(request.parameters["name"], digest)
    return Response(202)


def is_known(request: Request, digest: Digest) -> bool:
    """Return whether the client says that it has the content already (RFC 9110, 13.1.2)."""
    header = request.listed("if-none-match")
    if header is None:
        return False
    tags = parse_tags(header)
    return ANY in tags or str(digest) in tags


def _range(request: Request, digest: Digest) -> str | None:
    """Return the ``Range``, unless ``If-Range`` says that it is meant for other content."""
    condition = request.header("if-range")
    if condition is not None and condition.strip() != f'"{digest}"':
        return None
    return request.header("range")
