"""The audit log: which requests it tells of, and what it says of them."""

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import bcrypt
import httpx
import pytest

from tests.inprocess import application, client_of
from tests.parts.images import digest_of


HASH: Final = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
CONTENT: Final = b"content"
DIGEST: Final = digest_of(CONTENT)
OCI: Final = "application/vnd.oci.image.manifest.v1+json"
MANIFEST: Final = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": {"mediaType": "a/b", "digest": DIGEST, "size": len(CONTENT)},
        "layers": [],
    }
).encode()
PUSHED: Final = digest_of(MANIFEST)
WHO: Final = {"kind": "user", "name": "alice", "groups": ["admins"]}


def basic(login: str, password: str = "secret") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()}


class Watched:
    """A registry with an audit log.

    Attributes:
        client: asks it, as alice unless told otherwise.
    """

    def __init__(self, client: httpx.AsyncClient, path: Path) -> None:
        self.client = client
        self._path = path
        self._read = 0

    def news(self) -> list[dict[str, Any]]:
        """Return what was written since the last look, without what differs each time."""
        lines = self._path.read_text().splitlines()[self._read :] if self._path.exists() else []
        self._read += len(lines)
        events = [json.loads(line) for line in lines]
        for event in events:
            stamp = event.pop("time")
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
            assert re.fullmatch(r"[0-9a-f]{28}", event.pop("request"))
            assert event.pop("address") == "127.0.0.1"
            assert event.pop("agent") == "test"
        return events

    async def ask(self, method: str, path: str, status: int, **more: Any) -> httpx.Response:  # noqa: ANN401
        headers = basic("alice") | {"User-Agent": "test"} | more.pop("headers", {})
        answer = await self.client.request(method, path, headers=headers, **more)
        assert answer.status_code == status, answer.text
        return answer

    async def push(self, reference: str = "1", name: str = "a") -> None:
        path = f"/v2/{name}/blobs/uploads/?digest={DIGEST}"
        await self.ask("POST", path, 201, content=CONTENT)
        await self.ask(
            "PUT",
            f"/v2/{name}/manifests/{reference}",
            201,
            content=MANIFEST,
            headers={"Content-Type": OCI},
        )


@asynccontextmanager
async def watched(folder: Path, **audit: object) -> AsyncIterator[Watched]:
    users, path = folder / "htpasswd", folder / "audit.log"
    users.write_text(f"alice:{HASH}\nbob:{HASH}\n")
    rules = [
        {"repositories": ["**"], "actions": ["*"], "who": ["group:admins"]},
        {"repositories": ["**"], "actions": ["pull"], "who": ["user:bob"]},
    ]
    served = application(
        folder,
        auth={"htpasswd": {"realm": "registry", "path": str(users)}},
        access={"groups": {"admins": ["alice"]}, "rules": rules},
        audit={"enabled": True, "path": str(path), **audit},
    )
    async with client_of(served) as client:
        yield Watched(client, path)


def told(action: str, status: int, result: str = "allowed", **more: object) -> dict[str, Any]:
    return {"action": action, "result": result, "status": status, **WHO, **more}


async def test_pushes_and_deletions_are_told_with_their_digest(tmp_path: Path) -> None:
    async with watched(tmp_path) as registry:
        await registry.push()
        place = {"repository": "a", "digest": PUSHED}
        assert registry.news() == [told("push", 201, reference="1", **place)]
        path = f"/v2/a/manifests/{PUSHED}?tag=2&tag=3"
        await registry.ask("PUT", path, 201, content=MANIFEST, headers={"Content-Type": OCI})
        assert registry.news() == [told("push", 201, reference=PUSHED, tags=["2", "3"], **place)]
        await registry.ask("DELETE", "/v2/a/manifests/2", 202)
        await registry.ask("DELETE", f"/v2/a/manifests/{PUSHED}", 202)
        await registry.ask("DELETE", f"/v2/a/blobs/{DIGEST}", 202)
        assert registry.news() == [
            told("delete", 202, repository="a", reference="2"),
            told("delete", 202, reference=PUSHED, **place),
            told("delete-blob", 202, repository="a", digest=DIGEST),
        ]


async def test_what_failed_is_told(tmp_path: Path) -> None:
    async with watched(tmp_path) as registry:
        await registry.ask("PUT", "/v2/a/manifests/1", 400, content=b"x")
        await registry.ask("DELETE", "/v2/a/manifests/1", 404)
        place = {"repository": "a", "reference": "1"}
        assert registry.news() == [
            told("push", 400, "failed", **place),
            told("delete", 404, "failed", **place),
        ]


async def test_a_mount_is_told_with_its_source(tmp_path: Path) -> None:
    async with watched(tmp_path) as registry:
        await registry.push()
        registry.news()
        await registry.ask("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}&from=a", 201)
        await registry.ask("POST", f"/v2/b/blobs/uploads/?mount={PUSHED[:-1]}0&from=a", 202)
        assert registry.news() == [told("mount", 201, repository="b", digest=DIGEST, source="a")]


async def test_administration_is_told(tmp_path: Path) -> None:
    async with watched(tmp_path) as registry:
        await registry.push()
        registry.news()
        await registry.ask("DELETE", "/v2/_dockyard/repositories/a", 202)
        listed = await registry.ask("GET", "/v2/_dockyard/trash", 200)
        item = listed.json()["items"][0]["id"]
        await registry.ask("POST", f"/v2/_dockyard/trash/{item}", 200)
        await registry.ask("POST", f"/v2/_dockyard/tags/a/1?digest={PUSHED}", 200)
        await registry.ask("DELETE", f"/v2/_dockyard/trash/{item}", 404)
        assert registry.news() == [
            told("delete-repository", 202, repository="a"),
            told("restore", 200, repository="a", item=item),
            told("rollback", 200, repository="a", reference="1", digest=PUSHED),
            told("destroy", 404, "failed", item=item),
        ]


async def test_keys_are_told_by_name_and_never_their_secret(tmp_path: Path) -> None:
    async with watched(tmp_path) as registry:
        wish = {"name": "deploy", "owner": "alice"}
        made = await registry.ask("POST", "/v2/_dockyard/keys", 201, json=wish)
        assert made.json()["secret"] not in (tmp_path / "audit.log").read_text()
        await registry.ask("POST", "/v2/_dockyard/keys", 409, json=wish)
        await registry.ask("DELETE", "/v2/_dockyard/keys/deploy", 202)
        assert registry.news() == [
            told("create-key", 201, item="deploy"),
            told("create-key", 409, "failed"),
            told("revoke-key", 202, item="deploy"),
        ]


async def test_logins_tokens_and_refusals_are_told(tmp_path: Path) -> None:
    nobody = {"kind": "anonymous"}
    async with watched(tmp_path) as registry:
        await registry.ask("GET", "/v2/", 200)
        await registry.ask("GET", "/auth/token?scope=repository:a:pull", 200)
        assert registry.news() == [told("login", 200), told("token", 200)]
        for path in ("/v2/", "/auth/token", "/v2/a/tags/list"):
            await registry.ask("GET", path, 401, headers=basic("alice", "wrong"))
        form = {"grant_type": "password", "username": "eve", "password": "x"}
        await registry.ask("POST", "/auth/token", 401, data=form)
        refused = {"action": "login", "result": "denied", "status": 401, **nobody}
        events = registry.news()
        assert [event.pop("claimed") for event in events] == ["alice", "alice", "alice", "eve"]
        assert events == [refused, refused, {**refused, "repository": "a"}, refused]
        bob = {"kind": "user", "name": "bob", "repository": "a", "result": "denied", "status": 403}
        await registry.ask("DELETE", "/v2/a/manifests/1", 403, headers=basic("bob"))
        await registry.ask("POST", "/v2/a/blobs/uploads/", 403, headers=basic("bob"))
        assert registry.news() == [
            {"action": "delete", "reference": "1", **bob},
            {"action": "push", **bob},
        ]
        await registry.ask("GET", "/v2/a/tags/list", 401, headers={"Authorization": "Bearer x"})
        (event,) = registry.news()
        assert event.pop("reason") == "not three parts, or too long"
        assert event == {
            "action": "pull",
            "repository": "a",
            "result": "denied",
            "status": 401,
            **nobody,
        }


async def test_who_says_nothing_and_is_asked_who_they_are_is_not_told(tmp_path: Path) -> None:
    async with watched(tmp_path) as registry:
        for path in ("/v2/", "/v2/a/tags/list"):
            await registry.ask("GET", path, 401, headers={"Authorization": ""})
        await registry.ask("GET", "/auth/token", 200, headers={"Authorization": ""})
        assert registry.news() == []


@pytest.mark.parametrize("pulls", [True, False])
async def test_pulls_are_told_if_asked_for(tmp_path: Path, *, pulls: bool) -> None:
    async with watched(tmp_path, pulls=pulls) as registry:
        await registry.push()
        registry.news()
        await registry.ask("HEAD", "/v2/a/manifests/1", 200)
        await registry.ask("GET", "/v2/a/manifests/1", 200)
        await registry.ask("GET", f"/v2/a/blobs/{DIGEST}", 200)
        place = {"repository": "a", "reference": "1", "digest": PUSHED}
        assert registry.news() == ([told("pull", 200, **place)] if pulls else [])


@pytest.mark.parametrize(
    "headers",
    [
        {"User-Agent": 'x","result":"allowed'},
        {"User-Agent": "x\\"},
        {"X-Forwarded-For": '1"\\ \x7f'},
        {"X-Forwarded-For": "x" * 5000},
        basic('eve"\n{"a":1}', "x"),
    ],
)
async def test_no_value_can_forge_a_line(tmp_path: Path, headers: Mapping[str, str]) -> None:
    async with watched(tmp_path) as registry:
        sent = {"User-Agent": "test", **basic("alice", "wrong"), **headers}
        await registry.client.get("/v2/", headers=sent)
        (line,) = (tmp_path / "audit.log").read_bytes().splitlines()
        event = json.loads(line)
        assert (event["action"], event["result"], event["kind"]) == ("login", "denied", "anonymous")
        assert re.fullmatch(rb"[\x20-\x7e]+", line)
        assert len(line) < 2000


async def test_a_query_without_end_does_not_break_it(tmp_path: Path) -> None:
    async with watched(tmp_path) as registry:
        query = "&".join(f"a{number}=1" for number in range(600))
        await registry.ask("POST", f"/v2/a/blobs/uploads/?{query}", 414)
        assert registry.news() == []


async def test_a_log_that_is_gone_fails_no_request(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "audit.log"
    async with watched(tmp_path, path=str(path)) as registry:
        await registry.push()
        assert not path.exists()
        path.parent.mkdir()
        await registry.push("2")
        assert json.loads(path.read_text())["reference"] == "2"


async def test_without_it_nothing_is_written(tmp_path: Path) -> None:
    async with watched(tmp_path, enabled=False) as registry:
        await registry.push()
        assert registry.news() == []
