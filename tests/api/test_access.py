"""Who is let in: each kind of principal, on each route. A new route is covered by itself."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Final

import bcrypt
import httpx
import pytest

from dockyard.auth.actions import Action
from dockyard.http.routes import ROUTES, TOKEN_ROUTES, Route
from tests.api.entrance import MAY, PASSWORD, basic, bearer, ruled, token
from tests.inprocess import application, client_of
from tests.parts.images import digest_of


CONTENT: Final = b"content"
DIGEST: Final = digest_of(CONTENT)


def target(route: Route, name: str = "team/a") -> str:
    item = "20260131T120000Z-1a2b3c4d"
    path = route.path.format(
        name=name, digest=DIGEST, reference="1", upload="0" * 36, tag="1", item=item
    )
    return f"/{path}"


EACH = [
    pytest.param(route, login, id=f"{login or 'anonymous'} {route.method} {route.path}")
    for route in ROUTES
    for login in MAY
]


def refused(status: int, login: str, needs: Action, may: Collection[Action] | None = None) -> bool:
    """Return whether `status` is the refusal that is due; nothing else may be one.

    Args:
        status: the status that was answered.
        login: who asked; empty if nobody knows.
        needs: what was to be done.
        may: what they may, if that is not what `MAY` says.
    """
    if needs is Action.BASE:
        due = 0 if login else 401
    elif needs in (MAY[login] if may is None else may):
        due = 0
    else:
        due = 403 if login else 401
    assert (status if status in {401, 403, 429} else 0) == due
    return due != 0


@pytest.mark.parametrize(("route", "login"), EACH)
async def test_with_a_password_everybody_gets_in_where_they_may(
    route: Route, login: str, tmp_path: Path
) -> None:
    async with ruled(tmp_path) as client:
        answer = await client.request(route.method, target(route), headers=basic(login))
        if refused(answer.status_code, login, route.needs) and answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith(
                'Bearer realm="http://registry.example/auth/token",service="registry"'
            )


@pytest.mark.parametrize(("route", "login"), EACH)
async def test_with_a_token_for_all_they_get_in_where_they_may(
    route: Route, login: str, tmp_path: Path
) -> None:
    async with ruled(tmp_path) as client:
        own = await token(client, login, "repository:team/a:*", "registry:catalog:*")
        answer = await client.request(route.method, target(route), headers=bearer(own))
        if route.needs is Action.BASE:
            assert answer.status_code == 200
        elif route.needs is Action.ADMIN:
            # No token grants what concerns all repositories; a password is needed.
            assert answer.status_code == (401 if login in {"", "admin"} else 403)
        else:
            refused(answer.status_code, login, route.needs)


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.needs is not Action.BASE],
    ids=lambda route: f"{route.method} {route.path}",
)
@pytest.mark.parametrize("scope", ["repository:team/b:*", "nonsense", ""])
async def test_a_token_for_something_else_is_not_enough(
    route: Route, scope: str, tmp_path: Path
) -> None:
    async with ruled(tmp_path) as client:
        other = await token(client, "admin", scope)
        answer = await client.request(route.method, target(route), headers=bearer(other))
        assert answer.status_code == 401
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize(
    "headers",
    [basic("admin", "wrong"), basic("nobody"), basic("robot$no"), bearer("a.b.c"), bearer("x")],
    ids=["wrong", "unknown", "robot", "token", "junk"],
)
async def test_what_proves_nothing_is_refused_even_where_everybody_may(
    route: Route, headers: dict[str, str], tmp_path: Path
) -> None:
    async with ruled(tmp_path) as client:
        answer = await client.request(route.method, target(route), headers=headers)
        assert answer.status_code == 401


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_an_empty_section_closes_everything(route: Route, tmp_path: Path) -> None:
    async with client_of(application(tmp_path, access=None)) as client:
        answer = await client.request(route.method, target(route))
        assert answer.status_code == (200 if route.needs is Action.BASE else 403)


async def test_the_detail_and_the_challenge_are_distributions(tmp_path: Path) -> None:
    async with ruled(tmp_path) as client:
        base = await client.get("/v2/")
        assert base.json()["errors"][0]["detail"] is None
        assert "scope" not in base.headers["www-authenticate"]
        push = await client.post("/v2/team/a/blobs/uploads/?mount=x&from=team/b")
        assert push.headers["www-authenticate"].endswith(
            'scope="repository:team/a:pull,push repository:team/b:pull"'
        )
        assert push.json()["errors"][0]["detail"][0] == {
            "Type": "repository",
            "Class": "",
            "Name": "team/a",
            "Action": "pull",
        }


async def _push(client: httpx.AsyncClient, name: str) -> None:
    query = f"/v2/{name}/blobs/uploads/?digest={DIGEST}"
    answer = await client.post(query, content=CONTENT, headers=basic("admin"))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("source", ["secret/a", "secret/nothing", None])
async def test_a_mount_does_not_tell_what_is_elsewhere(source: str | None, tmp_path: Path) -> None:
    async with ruled(tmp_path) as client:
        await _push(client, "secret/a")
        query = {"mount": DIGEST} | ({"from": source} if source else {})
        mounted = await client.post(
            "/v2/team/a/blobs/uploads/", params=query, headers=basic("pusher")
        )
        assert mounted.status_code == 202
        wide = await token(
            client, "pusher", "repository:team/a:pull,push", f"repository:{source}:pull"
        )
        mounted = await client.post("/v2/team/a/blobs/uploads/", params=query, headers=bearer(wide))
        assert mounted.status_code == 202


async def test_a_mount_needs_the_source_in_the_token(tmp_path: Path) -> None:
    async with ruled(tmp_path) as client:
        await _push(client, "team/b")
        for scopes, status in (
            (["repository:team/a:pull,push"], 202),
            (["repository:team/a:pull,push", "repository:team/b:pull"], 201),
        ):
            own = await token(client, "pusher", *scopes)
            answer = await client.post(
                "/v2/team/a/blobs/uploads/",
                params={"mount": DIGEST, "from": "team/b"},
                headers=bearer(own),
            )
            assert answer.status_code == status


async def test_the_catalog_shows_what_its_reader_may_pull(tmp_path: Path) -> None:
    async with ruled(tmp_path) as client:
        for name in ("a", "secret/b", "team/c"):
            await _push(client, name)
            config = {"mediaType": "a/b", "digest": DIGEST, "size": len(CONTENT)}
            media_type = "application/vnd.oci.image.manifest.v1+json"
            manifest = json.dumps(
                {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": []}
            )
            headers = basic("admin") | {"Content-Type": media_type}
            put = await client.put(f"/v2/{name}/manifests/1", content=manifest, headers=headers)
            assert put.status_code == 201, put.text
        for login, seen in (("", ["a", "team/c"]), ("admin", ["a", "secret/b", "team/c"])):
            answer = await client.get("/v2/_catalog", headers=basic(login))
            assert answer.json() == {"repositories": seen}
        page = await client.get("/v2/_catalog?n=1")
        assert page.json() == {"repositories": ["a"]}
        page = await client.get(page.links["next"]["url"])
        assert page.json() == {"repositories": ["team/c"]}
        assert "next" not in page.links


async def test_a_refresh_token_lasts_until_the_password_changes(tmp_path: Path) -> None:
    async with ruled(tmp_path) as client:
        offline = {"offline_token": "true", "scope": "repository:team/a:pull,push"}
        first = await client.get("/auth/token", params=offline, headers=basic("pusher"))
        refresh = first.json()["refresh_token"]
        form = {
            "grant_type": "refresh_token",
            "refresh_token": refresh,
            "service": "registry",
            "scope": "repository:team/a:pull,push",
        }
        again = await client.post("/auth/token", data=form)
        access = again.json()["access_token"]
        upload = await client.post("/v2/team/a/blobs/uploads/", headers=bearer(access))
        assert upload.status_code == 202
        assert (await client.get("/v2/", headers=bearer(refresh))).status_code == 401
        as_refresh = await client.post("/auth/token", data=form | {"refresh_token": access})
        assert as_refresh.status_code == 401
        other = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()
        (tmp_path / "htpasswd").write_text(f"pusher:{other}\n")
        assert (await client.post("/auth/token", data=form)).status_code == 401
        (tmp_path / "htpasswd").write_text("")
        assert (await client.get("/v2/", headers=bearer(access))).status_code == 401


async def test_the_form_of_a_login_is_checked(tmp_path: Path) -> None:
    async with ruled(tmp_path) as client:
        form = {"grant_type": "password", "username": "pusher", "password": PASSWORD}
        answer = await client.post("/auth/token", data=form | {"access_type": "offline"})
        assert {"access_token", "refresh_token", "expires_in"} <= set(answer.json())
        for wrong, status in (
            (form | {"password": "x"}, 401),
            (form | {"grant_type": "magic"}, 400),
            (form | {"service": "other"}, 400),
            (form | {"scope": "x" * (65 << 10)}, 400),
        ):
            assert (await client.post("/auth/token", data=wrong)).status_code == status
        assert (await client.put("/auth/token")).status_code == 405
        keys = (await client.get("/auth/jwks")).json()["keys"]
        assert [set(key) for key in keys] == [{"kty", "crv", "x", "y", "kid", "use", "alg"}]


async def test_who_guesses_is_told_when_to_try_again(tmp_path: Path) -> None:
    async with ruled(tmp_path) as client:
        statuses = [
            (await client.get("/auth/token", headers=basic("admin", "wrong"))).status_code
            for _ in range(4)
        ]
        assert statuses == [401, 401, 401, 429]
        answer = await client.get("/v2/", headers=basic("admin", "wrong"))
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["errors"][0]["code"] == "TOOMANYREQUESTS"


@pytest.mark.parametrize("host", ['a"b', "a\\b", "a b", "a,b"])
async def test_a_host_can_not_change_the_challenge(host: str, tmp_path: Path) -> None:
    async with ruled(tmp_path) as client:
        answer = await client.get("/v2/", headers={"Host": host, "X-Forwarded-Proto": 'x"y'})
        assert answer.headers["www-authenticate"] == (
            'Bearer realm="/auth/token",service="registry"'
        )


async def test_without_the_token_service_a_password_is_asked_for(tmp_path: Path) -> None:
    async with ruled(tmp_path, token={"enabled": False}) as client:
        assert (await client.get("/v2/")).headers["www-authenticate"] == 'Basic realm="registry"'
        assert (await client.get("/v2/", headers=basic("reader"))).status_code == 200
        assert (await client.get("/auth/token")).status_code == 404
        anonymous = {"Authorization": "Basic Og=="}  # what podman sends without a password
        assert (await client.get("/v2/a/tags/list", headers=anonymous)).status_code == 404


async def test_silly_wants_a_header_and_no_more(tmp_path: Path) -> None:
    auth = {"silly": {"realm": "http://x/t", "service": "s"}}
    async with client_of(application(tmp_path, auth=auth)) as client:
        answer = await client.get("/v2/a/tags/list")
        assert answer.headers["www-authenticate"] == (
            'Bearer realm="http://x/t",service="s",scope="repository:a:pull"'
        )
        assert (await client.get("/v2/", headers={"Authorization": "x"})).status_code == 200


@pytest.mark.parametrize("login", MAY)
async def test_the_token_service_takes_everybody_who_tells_no_lie(
    login: str, tmp_path: Path
) -> None:
    async with ruled(tmp_path) as client:
        for route in TOKEN_ROUTES:
            form = {"grant_type": "password", "username": login or "reader", "password": PASSWORD}
            answer = await client.request(
                route.method,
                f"/{route.path}",
                headers=basic(login),
                data=form if route.method == "POST" else None,
            )
            assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [basic("admin", "wrong"), basic("nobody"), basic("robot$no"), bearer("a.b.c")],
    ids=["wrong", "unknown", "robot", "token"],
)
async def test_who_proves_nothing_gets_no_token(headers: dict[str, str], tmp_path: Path) -> None:
    async with ruled(tmp_path) as client:
        answer = await client.get("/auth/token", headers=headers)
        assert answer.status_code == 401
        assert "token" not in answer.json()
        assert answer.headers["www-authenticate"] == 'Basic realm="registry"'


async def test_a_refusal_does_not_tell_what_is_there(tmp_path: Path) -> None:
    """Neither whether there is a repository, nor whether there is a user."""
    async with ruled(tmp_path) as client:
        upload = f"/v2/secret/there/blobs/uploads/?digest={DIGEST}"
        pushed = await client.post(upload, content=CONTENT, headers=basic("admin"))
        assert pushed.status_code == 201
        for path in ("tags/list", "manifests/1", f"blobs/{DIGEST}"):
            for headers in ({}, basic("reader")):
                there, absent = [
                    await client.get(f"/v2/secret/{name}/{path}", headers=headers)
                    for name in ("there", "gone")
                ]
                assert there.status_code == absent.status_code == (403 if headers else 401)
                assert there.text.replace("there", "") == absent.text.replace("gone", "")
        wrong, unknown = [
            await client.get("/v2/", headers=basic(login, "wrong")) for login in ("admin", "nobody")
        ]
        assert wrong.status_code == unknown.status_code == 401
        assert wrong.text == unknown.text
        assert wrong.headers["www-authenticate"] == unknown.headers["www-authenticate"]
