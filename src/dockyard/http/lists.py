"""Lists: the base, the catalog, tags (end-8) and referrers (end-12)."""

from dockyard.core.referrers import PAGE, Referrer
from dockyard.errors import PageSizeInvalidError
from dockyard.http.messages import Headers, Request, Response, as_json
from dockyard.http.services import Services
from dockyard.oci import mediatype
from dockyard.oci.digest import Digest
from dockyard.protocol.pagination import parse_size, render_next


CATALOG_PAGE = 100
"""Repositories in a page whose size the client leaves open."""


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
    body: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_INDEX,
        "manifests": [_descriptor(referrer) for referrer in found],
    }
    link: list[tuple[str, str]] = []
    if more:
        link = [("last", str(found[-1].manifest.digest)), ("n", str(limit))]
        link += [("artifactType", wanted)] if wanted else []
    headers: Headers = [(b"OCI-Filters-Applied", b"artifactType")] if wanted else []
    response = _json(services, f"v2/{name}/referrers/{digest}", body, link)
    kept = [pair for pair in response.headers if pair[0] != b"Content-Type"]
    content_type = (b"Content-Type", mediatype.OCI_INDEX.encode())
    return Response(200, [content_type, *headers, *kept], response.body)


def _descriptor(referrer: Referrer) -> dict[str, object]:
    item: dict[str, object] = {
        "mediaType": referrer.manifest.media_type,
        "digest": str(referrer.manifest.digest),
        "size": len(referrer.manifest.content),
    }
    if referrer.annotations:
        item["annotations"] = dict(referrer.annotations)
    if referrer.artifact_type:
        item["artifactType"] = referrer.artifact_type
    return item


def _json(
    services: Services, path: str, body: dict[str, object], link: list[tuple[str, str]]
) -> Response:
    """Return `body` as JSON, with a ``Link`` to the next page if there are parameters for one."""
    response = as_json(body)
    if link:
        address = render_next(f"{services.settings.prefix}{path}", link)
        response.headers.append((b"Link", address.encode("latin-1")))
    return response
