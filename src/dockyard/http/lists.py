"""Lists: the base, the catalog, tags (end-8) and referrers (end-12)."""

from dockyard.core.referrers import PAGE
from dockyard.errors import PageSizeInvalidError
from dockyard.http.messages import Headers, Request, Response, as_json
from dockyard.http.services import Services
from dockyard.oci import mediatype
from dockyard.oci.digest import Digest
from dockyard.protocol.pagination import parse_size, render_next


CATALOG_PAGE = 100
"""Repositories in a page whose size the client leaves open."""

_INDEX = b'{"schemaVersion":2,"mediaType":"%b","manifests":[' % mediatype.OCI_INDEX.encode()
"""How an index begins."""


async def base(_services: Services, _request: Request) -> Response:
    """Say that this is a registry."""
    return Response(200, [(b"Content-Type", b"application/json")], b"{}")


async def catalog(services: Services, request: Request) -> Response:
    """List the repositories that have content."""
    asked = request.query("n")
    size = parse_size(asked)
    if size is None:
        size = min(CATALOG_PAGE, services.settings.catalog_limit)
    elif size > services.settings.catalog_limit:
        raise PageSizeInvalidError(size)
    sees = None if request.asker is None else request.asker.sees
    names, more = await services.catalog.page(size, request.query("last") or "", sees)
    link: list[tuple[str, str]] = []
    if more:
        link = [("last", names[-1]), ("n", str(size))]
    return _json(services, "v2/_catalog", {"repositories": list(names)}, link)


async def tags(services: Services, request: Request) -> Response:
    """List the tags of a repository."""
    name = request.parameters["name"]
    size = parse_size(request.query("n"))
    if size is not None:
        size = min(size, services.settings.tags_limit)
    found, more = await services.tags.page(name, size, request.query("last") or "")
    link: list[tuple[str, str]] = []
    if more and found:
        link = [("last", found[-1]), ("n", str(size))]
    body: dict[str, object] = {"name": name, "tags": list(found)}
    return _json(services, f"v2/{name}/tags/list", body, link)


async def referrers(services: Services, request: Request) -> Response:
    """List the manifests that name another one as their subject."""
    name = request.parameters["name"]
    digest = Digest.parse(request.parameters["digest"])
    wanted = request.query("artifactType") or ""
    size = parse_size(request.query("n"))
    limit = PAGE if not size else min(size, PAGE)
    found, more = await services.referrers.page(
        name, digest, wanted, limit, request.query("last") or ""
    )
    body = b",".join(referrer.descriptor for referrer in found)
    headers: Headers = [(b"Content-Type", mediatype.OCI_INDEX.encode())]
    if wanted:
        headers.append((b"OCI-Filters-Applied", b"artifactType"))
    if more:
        link = [("last", str(found[-1].digest)), ("n", str(limit))]
        link += [("artifactType", wanted)] if wanted else []
        headers.append(_next(services, f"v2/{name}/referrers/{digest}", link))
    return Response(200, headers, b"%b%b]}\n" % (_INDEX, body))


def _json(
    services: Services, path: str, body: dict[str, object], link: list[tuple[str, str]]
) -> Response:
    """Return `body` as JSON, with a ``Link`` to the next page if there are parameters for one."""
    response = as_json(body)
    if link:
        response.headers.append(_next(services, path, link))
    return response


def _next(services: Services, path: str, link: list[tuple[str, str]]) -> tuple[bytes, bytes]:
    address = render_next(f"{services.settings.prefix}{path}", link)
    return b"Link", address.encode("latin-1")
