"""The routes, and the action that each needs.

Access is a column of the table: it has no default, so a route without it does not type-check.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from dockyard.auth.actions import Action
from dockyard.http import administration, blobs, keys, lists, manifests, tokens, uploads
from dockyard.http.messages import Request, Response
from dockyard.http.services import Services
from dockyard.oci.reference import is_name, is_tag


Handler: TypeAlias = Callable[[Services, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table.

    Attributes:
        endpoint: its number in the spec, or a name where the spec has none.
        method: the method.
        path: below the prefix; ``{name}`` is a repository, the last component may be a placeholder.
            Below `EXTENSION` it is a noun and what it is of.
        handler: answers the request.
        needs: the action that whoever asks must be allowed.
        is_repeated: whether its answer is kept, to be given again; see `dockyard.http.replays`.
    """

    endpoint: str
    method: str
    path: str
    handler: Handler
    needs: Action
    is_repeated: bool = False


EXTENSION: Final = "v2/_dockyard/"
"""Where what the distribution API does not have is. No repository's name begins so. Source: OCI
Distribution Spec, extensions/README.md."""

SAFE: Final = frozenset({"GET", "HEAD"})
"""Methods that change nothing. Source: RFC 9110, section 9.2.1."""

_BELOW: Final = EXTENSION.removeprefix("v2/")
_TAG: Final = f"{EXTENSION}tags/{{name}}/{{tag}}"
_KEYS: Final = f"{EXTENSION}keys"
_TRASH: Final = f"{EXTENSION}trash"
_UPLOAD: Final = "v2/{name}/blobs/uploads/{upload}"
_BLOB: Final = "v2/{name}/blobs/{digest}"
_MANIFEST: Final = "v2/{name}/manifests/{reference}"

ROUTES: Final[Sequence[Route]] = (
    Route("end-1", "GET", "v2/", lists.base, needs=Action.BASE),
    Route("catalog", "GET", "v2/_catalog", lists.catalog, needs=Action.CATALOG),
    Route("end-3", "GET", _MANIFEST, manifests.get, needs=Action.PULL, is_repeated=True),
    Route("end-3", "HEAD", _MANIFEST, manifests.get, needs=Action.PULL, is_repeated=True),
    Route("end-7", "PUT", _MANIFEST, manifests.put, needs=Action.PUSH),
    Route("end-9", "DELETE", _MANIFEST, manifests.delete, needs=Action.DELETE),
    Route("end-4", "POST", "v2/{name}/blobs/uploads/", uploads.begin, needs=Action.PUSH),
    Route("end-13", "GET", _UPLOAD, uploads.status, needs=Action.PULL),
    Route("end-13", "HEAD", _UPLOAD, uploads.status, needs=Action.PULL),
    Route("end-5", "PATCH", _UPLOAD, uploads.receive, needs=Action.PUSH),
    Route("end-6", "PUT", _UPLOAD, uploads.finish, needs=Action.PUSH),
    Route("end-14", "DELETE", _UPLOAD, uploads.cancel, needs=Action.DELETE),
    Route("end-2", "GET", _BLOB, blobs.get, needs=Action.PULL, is_repeated=True),
    Route("end-2", "HEAD", _BLOB, blobs.get, needs=Action.PULL, is_repeated=True),
    Route("end-10", "DELETE", _BLOB, blobs.delete, needs=Action.DELETE),
    Route("end-8", "GET", "v2/{name}/tags/list", lists.tags, needs=Action.PULL),
    Route("end-12", "GET", "v2/{name}/referrers/{digest}", lists.referrers, needs=Action.PULL),
    Route("history", "GET", _TAG, administration.history, needs=Action.PULL),
    Route("rollback", "POST", _TAG, administration.rollback, needs=Action.PUSH),
    Route(
        "remove",
        "DELETE",
        f"{EXTENSION}repositories/{{name}}",
        administration.remove_repository,
        needs=Action.DELETE,
    ),
    Route("trash", "GET", _TRASH, administration.trash, needs=Action.ADMIN),
    Route("restore", "POST", f"{_TRASH}/{{item}}", administration.restore, needs=Action.ADMIN),
    Route("destroy", "DELETE", f"{_TRASH}/{{item}}", administration.destroy, needs=Action.ADMIN),
    Route("list-keys", "GET", _KEYS, keys.list_keys, needs=Action.ADMIN),
    Route("create-key", "POST", _KEYS, keys.create, needs=Action.ADMIN),
    Route("revoke-key", "DELETE", f"{_KEYS}/{{item}}", keys.revoke, needs=Action.ADMIN),
)

TOKEN_ROUTES: Final[Sequence[Route]] = (
    Route("token", "GET", "auth/token", tokens.get, needs=Action.OPEN),
    Route("token", "POST", "auth/token", tokens.post, needs=Action.OPEN),
    Route("keys", "GET", "auth/jwks", tokens.keys, needs=Action.OPEN),
)
"""The routes of the token service; they are there while it is on. They look after themselves who
asks, and are open to everybody: that is what they are for."""


@dataclass(frozen=True, slots=True)
class Match:
    """The routes of a path.

    Attributes:
        methods: the routes by method.
        parameters: what the placeholders matched.
    """

    methods: Mapping[str, Route]
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Template:
    """A path with a repository in it, taken apart for matching from its end.

    Attributes:
        middle: what stands between the name and the last component, slashes at both ends.
        last: the last component, or the placeholder for it.
        methods: the routes by method.
    """

    middle: str
    last: str
    methods: Mapping[str, Route]


class Table:
    """Finds the routes of a path. A path that no route has is not there at all.

    A path whose routes all need a withheld action is there, without a method. What only reads is
    never withheld.
    """

    def __init__(self, routes: Sequence[Route], withheld: Collection[Action] = ()) -> None:
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods = by_path.setdefault(route.path, {})
            if route.needs not in withheld or route.method in SAFE:
                methods[route.method] = route
        self._fixed = {
            path.removeprefix("v2/"): methods
            for path, methods in by_path.items()
            if "{" not in path
        }
        self._extensions = {
            path.removeprefix(EXTENSION).partition("/")[0]: (path.partition("{")[2], methods)
            for path, methods in by_path.items()
            if path.startswith(EXTENSION) and "{" in path
        }
        self._templates = tuple(
            _template(path, methods)
            for path, methods in by_path.items()
            if path.startswith("v2/{name}/")
        )
        self._directories = tuple(
            template.middle for template in self._templates if not template.last
        )

    def find(self, path: str) -> Match | None:
        """Return the routes of `path`, which begins below ``/v2/``, or `None`."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return Match(fixed, {})
        if path.endswith(self._directories):
            return None  # the slash is missing; without it, ``uploads`` would be a digest
        head, _, last = path.rpartition("/")
        for template in self._templates:
            if not head.endswith(template.middle):
                continue
            name = head[: -len(template.middle)]
            parameters = _parameters(template.last, name, last)
            if parameters is not None:
                return Match(template.methods, parameters)
        return self._extension(path)

    def _extension(self, path: str) -> Match | None:
        """Return the routes of a path below `EXTENSION`: a noun, and what it is of."""
        noun, _, rest = path.removeprefix(_BELOW).partition("/")
        if not path.startswith(_BELOW) or noun not in self._extensions:
            return None
        placeholders, methods = self._extensions[noun]
        if placeholders == "item}":
            return Match(methods, {"item": rest}) if rest and "/" not in rest else None
        name, _, tag = rest.rpartition("/") if placeholders == "name}/{tag}" else (rest, "", None)
        if not is_name(name) or (tag is not None and not is_tag(tag)):
            return None
        return Match(methods, {"name": name} if tag is None else {"name": name, "tag": tag})


def _template(path: str, methods: Mapping[str, Route]) -> _Template:
    middle, _, last = path.removeprefix("v2/{name}").rpartition("/")
    return _Template(middle, last, methods)


def _parameters(placeholder: str, name: str, last: str) -> Mapping[str, str] | None:
    """Return what a path's placeholders match, or `None` if it is not of this form."""
    if not is_name(name):
        return None
    if not placeholder.startswith("{"):
        return {"name": name} if last == placeholder else None
    if not last:
        return None
    if placeholder == "{reference}" and ":" not in last and not is_tag(last):
        return None
    return {"name": name, placeholder.strip("{}"): last}
