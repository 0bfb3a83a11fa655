"""end-1, and what is true of every path: methods, redirects, prefixes, headers."""

import pytest

from dockyard.http.routes import ROUTES, Route
from tests.api.client import BASE
from tests.api.registry import MakeRegistry, Registry
from tests.parts.images import digest_of, image


UUID = "0190a5b2-0000-7000-8000-000000000000"
DIGEST = digest_of(b"x")
PATHS = {
    "v2/": "GET",
    "v2/_catalog": "GET",
    "v2/a/b/tags/list": "GET",
    "v2/a/b/manifests/v1": "DELETE, GET, HEAD, PUT",
    f"v2/a/b/manifests/{DIGEST}": "DELETE, GET, HEAD, PUT",
    f"v2/a/b/blobs/{DIGEST}": "DELETE, GET, HEAD",
    "v2/a/b/blobs/uploads/": "POST",
    f"v2/a/b/blobs/uploads/{UUID}": "DELETE, GET, HEAD, PATCH, PUT",
    f"v2/a/b/referrers/{DIGEST}": "GET",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


@pytest.mark.parametrize("method", METHODS)
async def test_end_1_the_base_answers_any_method(registry: Registry, method: str) -> None:
    answer = (await registry.send(method, "v2/")).expect(200)
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("Content-Length") == "2"
    assert answer.body == (b"" if method == "HEAD" else b"{}")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_root_says_that_we_live(registry: Registry, method: str) -> None:
    answer = (await registry.send(method, "/")).expect(200)
    assert answer.body == b""
    assert answer.header("Cache-Control") == "no-cache"


@pytest.mark.parametrize(("path", "allowed"), list(PATHS.items())[1:], ids=list(PATHS)[1:])
async def test_other_methods_are_refused_as_distribution_does(
    registry: Registry, path: str, allowed: str
) -> None:
    for method in set(METHODS) - {*allowed.split(", "), "OPTIONS"}:
        answer = (await registry.send(method, path, b"")).expect(405)
        assert answer.body == (b"" if method == "HEAD" else b"Method not allowed\n")
        assert answer.header("Content-Type") == "text/plain; charset=utf-8"
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert answer.header("Allow") == allowed


@pytest.mark.parametrize(("path", "allowed"), list(PATHS.items())[1:], ids=list(PATHS)[1:])
async def test_options_tells_the_methods(registry: Registry, path: str, allowed: str) -> None:
    answer = (await registry.send("OPTIONS", path)).expect(200)
    assert answer.header("Allow") == allowed
    assert answer.body == b""


@pytest.mark.parametrize(
    "path",
    [
        "v2/x",
        "v2/UPPER/tags/list",
        "v2/a/UPPER/manifests/v1",
        "v2/a/../b/tags/list",
        "v2//tags/list",
        "v2/a/tags/list/more",
        "v2/a/manifests/" + "t" * 129,
        "v2/a/manifests/-v1",
        "v2/" + "a" * 256 + "/tags/list",
        "v2/a%00/tags/list",
        "v1/_ping",
        "/metrics",
        "/V2/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_what_no_route_has_is_not_found(registry: Registry, method: str, path: str) -> None:
    answer = (await registry.send(method, path)).expect(404)
    assert answer.body == b"404 page not found\n"
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert answer.header("X-Content-Type-Options") == "nosniff"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/v2", "/v2/"),
        ("/v2/_catalog/", "/v2/_catalog"),
        ("/v2/a/tags/list/", "/v2/a/tags/list"),
        ("/v2/a/manifests/v1/", "/v2/a/manifests/v1"),
        (f"/v2/a/blobs/{DIGEST}/", f"/v2/a/blobs/{DIGEST}"),
        ("/v2/a/blobs/uploads", "/v2/a/blobs/uploads/"),
        (f"/v2/a/blobs/uploads/{UUID}/", f"/v2/a/blobs/uploads/{UUID}"),
    ],
)
@pytest.mark.parametrize(
    ("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("PUT", 308)]
)
async def test_a_slash_too_many_or_too_few_is_redirected(
    registry: Registry, method: str, status: int, path: str, location: str
) -> None:
    answer = (await registry.send(method, f"{path}?digest=a%2Fb")).expect(status)
    assert answer.location == f"{location}?digest=a%2Fb"


async def test_an_upload_without_the_slash_works_by_its_redirect(registry: Registry) -> None:
    moved = await registry.send("POST", "/v2/a/blobs/uploads")
    (await registry.send("POST", moved.location)).expect(202)


class TestHeaders:
    @pytest.mark.parametrize(
        "target", ["v2/", "v2/_catalog", "v2/x", "v2/a/tags/list", "v2/a/manifests/v1/"]
    )
    async def test_every_answer_of_the_api_has_them(self, make: MakeRegistry, target: str) -> None:
        registry = make(headers={"X-Content-Type-Options": ["nosniff"], "x-Multi": ["1", "2"]})
        answer = await registry.send("GET", target)
        assert ("Docker-Distribution-Api-Version", "registry/2.0") in answer.headers
        assert "nosniff" in answer.all("X-Content-Type-Options")
        assert answer.all("X-Multi") == ["1", "2"]

    async def test_paths_outside_the_api_do_not(self, registry: Registry) -> None:
        for target in ("/", "/x"):
            answer = await registry.send("GET", target)
            assert answer.header("Docker-Distribution-Api-Version") is None

    async def test_names_are_spelled_as_go_spells_them(self, registry: Registry) -> None:
        digest = await registry.push(name := "a", image("x"), "v1")
        names: set[str] = set()
        for answer in (
            await registry.manifest(name, "v1"),
            await registry.blob(name, image("x").blobs[0].digest),
            await registry.begin(name),
            await registry.send("PUT", "v2/"),
            await registry.send("PATCH", f"v2/a/manifests/{digest}"),
        ):
            names |= {key for key, _ in answer.headers}
        oci = {"OCI-Chunk-Min-Length"}
        assert all(key == key.title() for key in names - oci)
        assert {"Docker-Content-Digest", "Docker-Upload-Uuid", "Etag", "Allow", *oci} <= names


class TestPrefix:
    """`http.prefix` moves the API, and nothing else is there."""

    async def test_the_api_is_below_it(self, make: MakeRegistry) -> None:
        registry = make(prefix="/some/path/")
        (await registry.send("GET", "/some/path/v2/")).expect(200)
        (await registry.send("GET", "/")).expect(200)
        for target in ("/v2/", "/some/path/", "/some/pathv2/", "/other/path/v2/"):
            (await registry.send("GET", target)).expect(404)
        moved = (await registry.send("GET", "/some/path/v2")).expect(301)
        assert moved.location == "/some/path/v2/"

    async def test_every_address_has_it(self, make: MakeRegistry) -> None:
        registry = make(prefix="/some/path/")
        for tag in ("v1", "v2"):
            await registry.push("a", image("x"), tag)
        location = (await registry.begin("a")).location
        assert location.startswith(f"{BASE}/some/path/v2/a/blobs/uploads/")
        (await registry.finish(location, b"x", b"x")).expect(201)
        page = (await registry.send("GET", "v2/a/tags/list?n=1")).expect(200)
        assert page.header("Link") == '</some/path/v2/a/tags/list?last=v1&n=1>; rel="next"'
        moved = (await registry.send("GET", "v2/a/tags/list/")).expect(301)
        assert moved.location == "/some/path/v2/a/tags/list"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.endpoint} {route.method}")
async def test_read_only_mode_leaves_reading(make: MakeRegistry, route: Route) -> None:
    writable, registry = make(), make(read_only=True)
    top = image("x")
    await writable.push("a", top, "v1")
    upload = (await writable.begin("a")).location.rpartition("/")[2]
    path = route.path.format(
        name="a",
        reference="v1",
        digest=top.digest if "referrers" in route.path else top.blobs[0].digest,
        upload=upload,
        tag="v1",
        item="20260131T120000Z-1a2b3c4d",
    )
    answer = await registry.send(route.method, path)
    if route.method in {"GET", "HEAD"}:
        answer.expect(200, 204)
    else:
        answer.expect(405)
        assert answer.body == b"Method not allowed\n"
        allowed = {row.method for row in ROUTES if row.path == route.path} & {"GET", "HEAD"}
        assert answer.header("Allow") == ", ".join(sorted(allowed))


@pytest.mark.parametrize(
    ("target", "facts"),
    [
        ("v2/a/b/manifests/v1", {"name": "a/b", "reference": "v1"}),
        (f"v2/a/b/blobs/{DIGEST}", {"name": "a/b", "digest": DIGEST}),
        (f"v2/a/b/blobs/uploads/{UUID}.5", {"name": "a/b", "uuid": f"{UUID}.5"}),
        ("v2/a/b/tags/list", {"name": "a/b"}),
    ],
)
async def test_the_log_learns_what_a_request_is_about(
    registry: Registry, target: str, facts: dict[str, str]
) -> None:
    answer = (await registry.send("GET", target)).expect(404)
    assert {name: getattr(answer.facts, name) for name in facts} == facts
    assert answer.facts.code is not None
    assert answer.facts.detail
