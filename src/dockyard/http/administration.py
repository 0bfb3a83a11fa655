"""What the distribution API does not have, below ``/v2/_dockyard/``: undoing and removing."""

from dockyard.core.removals import Past, Restored
from dockyard.core.trash import Item
from dockyard.errors import UnsupportedError
from dockyard.http.messages import Request, Response, as_json
from dockyard.http.services import Services
from dockyard.oci.digest import Digest
from dockyard.protocol.pagination import parse_size, render_next


PAGE = 100
"""Items of the trash in a page whose size the client leaves open, and at most."""


async def history(services: Services, request: Request) -> Response:
    """List what a tag points to and once did, the newest first."""
    name, tag = request.parameters["name"], request.parameters["tag"]
    found = await services.removals.history(name, tag)
    return as_json({"name": name, "tag": tag, "history": [_past(past) for past in found]})


async def rollback(services: Services, request: Request) -> Response:
    """Point a tag to what it pointed to before, or to the digest that the query names."""
    name, tag = request.parameters["name"], request.parameters["tag"]
    asked = request.query("digest")
    wanted = Digest.parse(asked) if asked is not None else None
    digest = await services.removals.rollback(name, tag, wanted)
    return as_json({"name": name, "tag": tag, "digest": str(digest)})


async def remove_repository(services: Services, request: Request) -> Response:
    """Move a repository to the trash."""
    _require_delete(services)
    await services.removals.remove_repository(request.parameters["name"])
    return Response(202)


async def trash(services: Services, request: Request) -> Response:
    """List what was removed and can be restored, the oldest first."""
    size, last = parse_size(request.query("n")), request.query("last") or ""
    limit = PAGE if size is None else min(size, PAGE)
    found = await services.removals.items(request.query("repository"))
    after = [item for item in found if item.identifier > last]
    page = after[:limit]
    response = as_json({"items": [_item(item) for item in page]})
    if len(after) > len(page) > 0:
        fields = [("last", page[-1].identifier), ("n", str(limit))]
        fields += [("repository", name) for name in request.queries("repository")[:1]]
        address = render_next(f"{services.settings.prefix}v2/_dockyard/trash", fields)
        response.headers.append((b"Link", address.encode("latin-1")))
    return response


async def restore(services: Services, request: Request) -> Response:
    """Bring an item of the trash back to where it was."""
    return as_json(_restored(await services.removals.restore(request.parameters["item"])))


async def destroy(services: Services, request: Request) -> Response:
    """Destroy an item of the trash."""
    _require_delete(services)
    await services.removals.destroy(request.parameters["item"])
    return Response(202)


def _require_delete(services: Services) -> None:
    if not services.settings.delete_enabled:
        raise UnsupportedError


def _past(past: Past) -> dict[str, object]:
    described: dict[str, object] = {
        "digest": str(past.digest),
        "moved": past.moved.isoformat(),
        "state": past.whereabouts.value,
    }
    return described if past.item is None else {**described, "item": past.item}


def _item(item: Item) -> dict[str, object]:
    return {
        "id": item.identifier,
        "repository": item.name,
        "removed": item.removed.isoformat(),
        "tags": {tag: digest and str(digest) for tag, digest in item.tags.items()},
        "manifests": [str(digest) for digest in item.manifests],
        "blobs": len(item.blobs),
    }


def _restored(restored: Restored) -> dict[str, object]:
    return {
        "repository": restored.name,
        "manifests": [str(digest) for digest in restored.manifests],
        "tags": restored.tags,
        "taken": restored.taken,
        "incomplete": {str(digest): why for digest, why in restored.incomplete.items()},
    }
