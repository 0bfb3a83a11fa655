"""Workloads: they log in with a token of another issuer, as docker does, or send it as it is."""

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import bcrypt
import httpx
import pytest
from joserfc.jwk import RSAKey

from dockyard.errors import StorageError
from dockyard.http.request_log import RequestLog
from tests.inprocess import application, client_of, recorded_log
from tests.unit.auth.signed import sign


KEY: Final = RSAKey.generate_key(2048)
ISSUER: Final = "https://issuer.example"
HASH: Final = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def token(**over: object) -> str:
    now = int(time.time())
    given = {"repository": "octo/app", "ref": "refs/heads/main", "sub": "x"}
    said = {"iss": ISSUER, "aud": "registry", "nbf": now, "exp": now + 300, **given} | over
    return sign(KEY, {"alg": "RS256", "kid": "key"}, said)


def basic(password: str, login: str = "oidc") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()}


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def served(folder: Path, **access: object) -> RequestLog:
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [{**KEY.as_dict(private=False), "kid": "key"}]}))
    main = {
        "issuer": ISSUER,
        "audience": "registry",
        "jwks": str(keys),
        "conditions": {"repository": "octo/*", "ref": "refs/heads/main"},
        "principal": "robot:ci:{repository}",
        "groups": ["builds"],
    }
    section = {
        "oidc": [main],
        "rules": [
            {"repositories": ["app"], "actions": ["pull"], "who": ["group:builds"]},
            {"repositories": ["app"], "actions": ["push"], "who": ["robot:ci:octo/app"]},
        ],
        **access,
    }
    audit = {"enabled": True, "path": str(folder / "audit.log")}
    return application(folder, access=section, audit=audit)


@asynccontextmanager
async def trusting(folder: Path, **access: object) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(served(folder, **access)) as client:
        yield client


async def status(client: httpx.AsyncClient, headers: dict[str, str], name: str = "app") -> int:
    path = f"/v2/{name}/blobs/uploads/"
    return (await client.post(path, headers=headers)).status_code


async def get_token(client: httpx.AsyncClient, password: str) -> httpx.Response:
    query = {"scope": "repository:app:pull,push", "offline_token": "true", "account": "oidc"}
    return await client.get("/auth/token", params=query, headers=basic(password))


async def test_the_way_of_docker(tmp_path: Path) -> None:
    async with trusting(tmp_path) as client:
        challenge = (await client.get("/v2/")).headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="http://registry.example/auth/token"')
        answer = await get_token(client, token())
        assert answer.status_code == 200
        assert "refresh_token" not in answer.json()  # the token of the issuer ends soon
        own = bearer(answer.json()["token"])
        assert (await client.get("/v2/", headers=own)).status_code == 200
        assert await status(client, own) == 202
        assert await status(client, own, "other") == 403


async def test_the_way_of_oauth(tmp_path: Path) -> None:
    form = {
        "grant_type": "password",
        "username": "oidc",
        "password": token(),
        "scope": "repository:app:pull,push",
        "access_type": "offline",
    }
    async with trusting(tmp_path) as client:
        answer = (await client.post("/auth/token", data=form)).json()
        assert "refresh_token" not in answer
        assert await status(client, bearer(answer["access_token"])) == 202
        form["password"] = token(aud="other")
        assert (await client.post("/auth/token", data=form)).status_code == 401


@pytest.mark.parametrize("send", [bearer, basic])
async def test_the_token_itself_can_be_sent(send: Any, tmp_path: Path) -> None:  # noqa: ANN401
    async with trusting(tmp_path) as client:
        assert await status(client, send(token())) == 202
        assert await status(client, send(token(repository="octo/other"))) == 403
        assert await status(client, send(token(repository="evil/app"))) == 401
        assert await status(client, send(token(exp=1))) == 401


@pytest.mark.parametrize(
    "over",
    [
        {"exp": 1},
        {"nbf": 1 << 40},
        {"aud": "other"},
        {"iss": "https://other.example"},
        {"repository": None},
        {"repository": "octo/a\nb"},
        {"repository": "octo/{ref}"},
        {"ref": "refs/heads/other"},
    ],
    ids=str,
)
async def test_what_proves_nothing_gets_no_token(over: dict[str, Any], tmp_path: Path) -> None:
    async with trusting(tmp_path) as client:
        answer = await get_token(client, token(**over))
        assert answer.status_code == 401
        assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"


async def test_other_names_log_in_with_other_passwords(tmp_path: Path) -> None:
    async with trusting(tmp_path, robots={"a": {"hash": HASH}}) as client:
        assert (await client.get("/v2/", headers=basic("secret", "robot$a"))).status_code == 200
        assert (await client.get("/v2/", headers=basic(token(), "robot$a"))).status_code == 401
        assert (await client.get("/v2/", headers=basic(token(), "other"))).status_code == 401


async def test_it_works_without_the_token_service(tmp_path: Path) -> None:
    async with trusting(tmp_path, token={"enabled": False}) as client:
        challenge = (await client.get("/v2/")).headers["www-authenticate"]
        assert challenge == 'Basic realm="registry"'
        assert await status(client, basic(token())) == 202
        assert await status(client, bearer(token())) == 202


async def test_our_token_ends_with_the_configuration(tmp_path: Path) -> None:
    async with trusting(tmp_path) as client:
        own = bearer((await get_token(client, token())).json()["token"])
    other = {
        "issuer": ISSUER,
        "audience": "registry",
        "jwks": str(tmp_path / "jwks.json"),
        "conditions": {"repository": "octo/*", "ref": "refs/heads/release"},
        "principal": "robot:ci:{repository}",
        "groups": ["builds"],
    }
    for oidc in ([other], []):  # the keys of our tokens stay the same: they lie in the storage
        rule = {"repositories": ["**"], "actions": ["*"], "who": ["authenticated"]}
        robots = {"a": {"hash": HASH}}
        async with trusting(tmp_path, oidc=oidc, robots=robots, rules=[rule]) as client:
            assert await status(client, own) == 401


async def test_the_log_says_why_and_the_answer_does_not(tmp_path: Path) -> None:
    with recorded_log() as entries:
        async with trusting(tmp_path) as client:
            answer = await get_token(client, token(exp=1))
            assert "expired" not in answer.text
    assert [each["err.detail"] for each in entries if "err.detail" in each] == [
        "authentication required: it has expired"
    ]
    (event,) = map(json.loads, (tmp_path / "audit.log").read_text().splitlines())
    assert (event["action"], event["claimed"]) == ("login", "oidc")
    assert event["reason"] == "it has expired"


async def test_the_audit_log_names_workloads(tmp_path: Path) -> None:
    async with trusting(tmp_path) as client:
        await get_token(client, token())
    (event,) = map(json.loads, (tmp_path / "audit.log").read_text().splitlines())
    assert (event["action"], event["kind"], event["name"]) == ("token", "robot", "ci:octo/app")


async def test_keys_that_are_not_there_stop_the_start(tmp_path: Path) -> None:
    issuer = {
        "issuer": ISSUER,
        "audience": "registry",
        "jwks": "/absent/jwks.json",
        "conditions": {"repository": "octo/*"},
        "principal": "ci",
    }
    told = r"^access\.oidc\[0\]\.jwks: can't read /absent/jwks\.json: no such file or directory$"
    with pytest.raises(StorageError, match=told):
        served(tmp_path, oidc=[issuer], rules=[])
