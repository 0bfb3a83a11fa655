"""Tokens of somebody else (`auth.token`): the token says what its bearer may.

That real docker-registry takes and refuses the same tokens: `tests/takeover/test_access.py`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey

from dockyard.clock import utc_now
from tests.api.entrance import HASH, basic, bearer
from tests.inprocess import application, client_of
from tests.parts.images import digest_of
from tests.unit.auth.signed import certificate, claims, pem, sign


PRIVATE: Final = ec.generate_private_key(ec.SECP256R1())
KEY: Final = ECKey.import_key(
    PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
)
REALM: Final = 'Bearer realm="https://auth.example/token",service="service"'
TAGS: Final = "/v2/a/b/tags/list"
PULL: Final = 'scope="repository:a/b:pull"'


@asynccontextmanager
async def guarded(folder: Path, **token: object) -> AsyncIterator[httpx.AsyncClient]:
    """Open a registry that believes tokens of KEY."""
    root = folder / "root.pem"
    root.write_bytes(pem(certificate("root", PRIVATE, now=utc_now())))
    section = {
        "realm": "https://auth.example/token",
        "service": "service",
        "issuer": "issuer",
        "rootcertbundle": str(root),
        **token,
    }
    async with client_of(application(folder, auth={"token": section})) as client:
        yield client


def token(*access: dict[str, Any], **over: object) -> dict[str, str]:
    signed = claims(utc_now(), access=list(access), **over)
    return bearer(sign(KEY, {"alg": "ES256", "typ": "JWT", "kid": KEY.thumbprint()}, signed))


def repository(*actions: str, name: str = "a/b") -> dict[str, Any]:
    return {"type": "repository", "name": name, "actions": list(actions)}


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        pytest.param(dict, "", id="nothing"),
        pytest.param(lambda: basic("alice"), "", id="password"),
        pytest.param(lambda: bearer("a.b.c"), ',error="invalid_token"', id="junk"),
        pytest.param(
            lambda: token(repository("pull"), iss="other"),
            ',error="invalid_token"',
            id="other issuer",
        ),
        pytest.param(token, ',error="insufficient_scope"', id="no grant"),
        pytest.param(
            lambda: token(repository("push", "delete")),
            ',error="insufficient_scope"',
            id="other action",
        ),
        pytest.param(
            lambda: token(repository("pull", name="a/c")),
            ',error="insufficient_scope"',
            id="other name",
        ),
    ],
)
async def test_what_does_not_grant_it_is_asked_for_a_token_that_does(
    headers: Callable[[], dict[str, str]], error: str, tmp_path: Path
) -> None:
    """The tokens are made when they are sent: those of when the tests were collected have ended."""
    async with guarded(tmp_path) as client:
        answer = await client.get(TAGS, headers=headers())
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == f"{REALM},{PULL}{error}"
        (told,) = answer.json()["errors"]
        wanted = {"Type": "repository", "Class": "", "Name": "a/b", "Action": "pull"}
        assert (told["code"], told["detail"]) == ("UNAUTHORIZED", [wanted])


async def test_the_bearer_may_what_the_token_grants_and_no_more(tmp_path: Path) -> None:
    async with guarded(tmp_path) as client:
        assert (await client.get("/v2/", headers=token())).status_code == 200
        assert (await client.get(TAGS, headers=token(repository("pull")))).status_code == 404
        begin = "/v2/a/b/blobs/uploads/"
        assert (await client.post(begin, headers=token(repository("pull")))).status_code == 401
        both = token(repository("pull", "push"))
        assert (await client.post(begin, headers=both)).status_code == 202
        assert (await client.get("/v2/_catalog", headers=both)).status_code == 401
        catalog = token({"type": "registry", "name": "catalog", "actions": ["*"]}, sub=...)
        assert (await client.get("/v2/_catalog", headers=catalog)).status_code == 200


async def test_no_token_of_theirs_grants_what_is_ours(tmp_path: Path) -> None:
    every = token(repository("*"), repository("pull", "push", "delete"))
    async with guarded(tmp_path) as client:
        assert (await client.get("/v2/_dockyard/trash", headers=every)).status_code == 401


async def test_a_mount_needs_the_pull_from_its_source(tmp_path: Path) -> None:
    content = b"content"
    source = token(repository("pull", "push", name="a/source"))
    query = f"?mount={digest_of(content)}&from=a/source"
    async with guarded(tmp_path) as client:
        stored = await client.post(
            f"/v2/a/source/blobs/uploads/?digest={digest_of(content)}",
            content=content,
            headers=source,
        )
        assert stored.status_code == 201
        refused = await client.post(f"/v2/a/b/blobs/uploads/{query}")
        scope = 'scope="repository:a/b:pull,push repository:a/source:pull"'
        assert refused.headers["www-authenticate"] == f"{REALM},{scope}"
        alone = token(repository("pull", "push"))
        both = token(repository("pull", "push"), repository("pull", name="a/source"))
        statuses = [
            (await client.post(f"/v2/a/b/blobs/uploads/{query}", headers=headers)).status_code
            for headers in (alone, both)
        ]
        assert statuses == [202, 201]


@pytest.mark.parametrize(
    ("sent", "realm"),
    [
        ({"Host": "a.example"}, "https://a.example/auth/token"),
        ({"Host": "a.example:8", "X-Forwarded-Proto": "http"}, "http://a.example:8/auth/token"),
        ({"Host": 'a",x="y'}, 'https://a\\",x=\\"y/auth/token'),
    ],
)
async def test_the_realm_is_that_of_the_host_if_it_redirects(
    sent: dict[str, str], realm: str, tmp_path: Path
) -> None:
    async with guarded(tmp_path, autoredirect=True) as client:
        answer = await client.get("/v2/", headers=sent)
        assert answer.headers["www-authenticate"] == f'Bearer realm="{realm}",service="service"'


async def test_users_without_rules_are_asked_for_a_password(tmp_path: Path) -> None:
    users = tmp_path / "htpasswd"
    users.write_text(f"alice:{HASH}\n")
    auth = {"htpasswd": {"realm": 'my "realm"', "path": str(users)}}
    async with client_of(application(tmp_path, auth=auth)) as client:
        for headers in ({}, basic("alice", "wrong"), basic("bob"), bearer("a.b.c")):
            answer = await client.get(TAGS, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == 'Basic realm="my \\"realm\\""'
        assert (await client.get("/v2/_catalog", headers=basic("alice"))).status_code == 200
        assert (await client.get(TAGS, headers=basic("alice"))).status_code == 404


async def test_without_tokens_of_ours_a_bearer_is_asked_for_a_password(tmp_path: Path) -> None:
    rules = [{"repositories": ["**"], "actions": ["pull"], "who": ["anonymous"]}]
    section = {"rules": rules, "robots": {"ci": {"hash": HASH}}, "token": {"enabled": False}}
    async with client_of(application(tmp_path, access=section)) as client:
        answer = await client.get(TAGS, headers=bearer("a.b.c"))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Basic realm="registry"'
        assert (await client.get(TAGS)).status_code == 404
