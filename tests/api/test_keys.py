"""API keys: making and revoking them by HTTP, and what whoever comes with one may."""

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from dockyard.storage import layout
from tests.api.entrance import HASH, basic, bearer, ruled, token
from tests.inprocess import application, client_of, recorded_log
from tests.parts.images import digest_of


KEYS: Final = "/v2/_dockyard/keys"
PUSH: Final = "/v2/team/a/blobs/uploads/"
SCOPE: Final = "repository:team/a:pull,push"


async def made(client: httpx.AsyncClient, **wish: object) -> str:
    """Make a key, and return its secret."""
    answer = await client.post(
        KEYS, json={"name": "deploy", "owner": "pusher", **wish}, headers=basic("admin")
    )
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["secret"])


async def gone(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Wait until whoever sends `headers` is refused: other workers need a moment."""
    async with asyncio.timeout(5):
        while (await client.post(PUSH, headers=headers)).status_code != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def revoke(client: httpx.AsyncClient, name: str = "deploy") -> None:
    answer = await client.delete(f"{KEYS}/{name}", headers=basic("admin"))
    assert answer.status_code == 202, answer.text


class TestAdministration:
    async def test_a_key_is_listed_without_its_secret(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
            secret = await made(client, repositories=["team/*"], expires=expires.isoformat())
            answer = await client.get(KEYS, headers=basic("admin"))
            assert secret not in answer.text
            (key,) = answer.json()["keys"]
            created = key.pop("created")
            assert datetime.now(UTC) - datetime.fromisoformat(created) < timedelta(minutes=1)
            assert key == {
                "name": "deploy",
                "owner": "pusher",
                "actions": ["*"],
                "repositories": ["team/*"],
                "expires": expires.isoformat(),
                "used": None,
                "useless": None,
            }

    async def test_pages(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            for name in ("c", "a", "b"):
                await made(client, name=name)
            page = await client.get(f"{KEYS}?n=2", headers=basic("admin"))
            assert [key["name"] for key in page.json()["keys"]] == ["a", "b"]
            page = await client.get(page.links["next"]["url"], headers=basic("admin"))
            assert [key["name"] for key in page.json()["keys"]] == ["c"]
            assert "next" not in page.links

    async def test_a_name_is_given_once_until_it_is_revoked(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            wish = {"name": "deploy", "owner": "pusher"}
            await made(client)
            answer = await client.post(KEYS, json=wish, headers=basic("admin"))
            assert answer.status_code == 409
            assert "there is a key 'deploy' already" in answer.json()["errors"][0]["message"]
            await revoke(client)
            answer = await client.delete(f"{KEYS}/deploy", headers=basic("admin"))
            assert answer.status_code == 404
            assert (
                answer.json()["errors"][0]["message"] == "there is no key 'deploy'; list the keys"
            )
            await made(client)

    @pytest.mark.parametrize(
        ("wish", "message"),
        [
            ("nonsense", "must be a JSON object"),
            ("[]", "must be a JSON object"),
            ({"name": "x"}, "owner: a text is needed"),
            ({"owner": "pusher"}, "name: a text is needed"),
            ({"name": "X", "owner": "pusher"}, "'X' can't be a key's name"),
            ({"name": "x" * 65, "owner": "pusher"}, "at most 64 characters"),
            ({"name": "x", "owner": "nobody"}, "owner: 'nobody' is neither a user"),
            ({"name": "x", "owner": "robot$no"}, "owner: 'robot$no' is neither a user"),
            ({"name": "x", "owner": "pusher", "actions": []}, "at least one is needed"),
            ({"name": "x", "owner": "pusher", "actions": "pull"}, "actions: a list of texts"),
            ({"name": "x", "owner": "pusher", "actions": ["fly"]}, "'fly' is none of pull"),
            ({"name": "x", "owner": "pusher", "actions": ["push"]}, "push needs pull too"),
            ({"name": "x", "owner": "pusher", "actions": ["catalog"]}, "catalog needs pull too"),
            ({"name": "x", "owner": "pusher", "repositories": []}, "from 1 to 32 patterns"),
            ({"name": "x", "owner": "pusher", "repositories": ["a//b"]}, "'a//b' must be"),
            ({"name": "x", "owner": "pusher", "expires": "soon"}, "'soon' is no time such as"),
            ({"name": "x", "owner": "pusher", "expires": 5}, "is no time such as"),
            ({"name": "x", "owner": "pusher", "expires": "2020-01-01T00:00Z"}, "is over"),
            ({"name": "x", "owner": "pusher", "secret": "x"}, "'secret' is none of actions"),
        ],
    )
    async def test_a_wish_that_can_not_be_is_refused_and_says_why(
        self, wish: object, message: str, tmp_path: Path
    ) -> None:
        async with ruled(tmp_path) as client:
            body = wish if isinstance(wish, str) else json.dumps(wish)
            answer = await client.post(KEYS, content=body, headers=basic("admin"))
            assert answer.status_code == 400
            assert message in answer.json()["errors"][0]["message"]

    async def test_a_body_without_end_is_refused(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            answer = await client.post(KEYS, content=b" " * (65 << 10), headers=basic("admin"))
            assert answer.status_code == 400

    async def test_a_key_makes_no_key_but_may_list_and_revoke(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            await made(client)
            own = basic("admin", await made(client, name="root", owner="admin"))
            wish = {"name": "more", "owner": "admin"}
            answer = await client.post(KEYS, json=wish, headers=own)
            assert answer.status_code == 403
            assert "the key 'root' can't make keys" in answer.json()["errors"][0]["message"]
            assert len((await client.get(KEYS, headers=own)).json()["keys"]) == 2
            assert (await client.delete(f"{KEYS}/deploy", headers=own)).status_code == 202

    async def test_a_narrow_key_of_an_administrator_administrates_nothing(
        self, tmp_path: Path
    ) -> None:
        async with ruled(tmp_path) as client:
            for number, scope in enumerate(({"repositories": ["team/**"]}, {"actions": ["pull"]})):
                own = basic("admin", await made(client, name=f"k{number}", owner="admin", **scope))
                assert (await client.get(KEYS, headers=own)).status_code == 403

    async def test_without_accounts_nobody_can_have_one(self, tmp_path: Path) -> None:
        async with client_of(application(tmp_path)) as client:
            assert (await client.get(KEYS)).json() == {"keys": []}
            answer = await client.post(KEYS, json={"name": "x", "owner": "y"})
            assert answer.status_code == 400
            assert "neither auth.htpasswd nor access.robots" in answer.text

    async def test_a_read_only_registry_makes_none(self, tmp_path: Path) -> None:
        storage = {
            "filesystem": {"rootdirectory": str(tmp_path / "root")},
            "maintenance": {"readonly": {"enabled": True}},
        }
        async with client_of(application(tmp_path, storage=storage)) as client:
            assert (await client.post(KEYS, json={})).status_code == 405
            assert (await client.get(KEYS)).status_code == 200


class TestUse:
    async def test_as_a_password_and_for_a_token(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            secret = await made(client)
            answer = await client.post(PUSH, headers=basic("pusher", secret))
            assert answer.status_code == 202
            got = await client.get(
                "/auth/token", params={"scope": SCOPE}, headers=basic("pusher", secret)
            )
            answer = await client.post(PUSH, headers=bearer(got.json()["token"]))
            assert answer.status_code == 202

    async def test_a_robot_without_a_password_has_keys(self, tmp_path: Path) -> None:
        async with ruled(tmp_path, robots={"ci": {}}) as client:
            assert (await client.post(PUSH, headers=basic("robot$ci", ""))).status_code == 401
            secret = await made(client, owner="robot$ci")
            answer = await client.post(PUSH, headers=basic("robot$ci", secret))
            assert answer.status_code == 202

    @pytest.mark.parametrize("login", ["reader", "deploy", "robot$ci", "admin"])
    async def test_it_is_only_its_owners(self, login: str, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            secret = await made(client)
            answer = await client.get("/v2/", headers=basic(login, secret))
            assert answer.status_code == 401

    async def test_it_narrows_and_never_widens(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            secret = await made(client, actions=["pull"], repositories=["team/*", "secret/*"])
            own = basic("pusher", secret)
            assert (await client.get("/v2/team/a/tags/list", headers=own)).status_code == 404
            assert (await client.post(PUSH, headers=own)).status_code == 403
            assert (await client.get("/v2/other/tags/list", headers=own)).status_code == 403
            assert (await client.get("/v2/secret/a/tags/list", headers=own)).status_code == 403
            assert (await client.get("/v2/_catalog", headers=own)).status_code == 403

    async def test_its_tokens_grant_what_it_is_good_for(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            secret = await made(client, actions=["pull"])
            got = await client.get(
                "/auth/token", params={"scope": SCOPE}, headers=basic("pusher", secret)
            )
            payload = got.json()["token"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
            (granted,) = claims["access"]
            assert granted["actions"] == ["pull"]
            assert claims["sub"] == "pusher"
            assert secret not in json.dumps(claims)

    async def test_the_catalog_shows_what_it_is_good_for(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            for name in ("team/a", "x"):
                link = tmp_path / "root" / layout.tag_current(name, "v1")
                link.parent.mkdir(parents=True)
                link.write_text(digest_of(b"x"))
            catalog = await client.get("/v2/_catalog", headers=basic("pusher"))
            assert catalog.json() == {"repositories": ["team/a", "x"]}
            secret = await made(client, repositories=["team/*"])
            catalog = await client.get("/v2/_catalog", headers=basic("pusher", secret))
            assert catalog.json() == {"repositories": ["team/a"]}

    async def test_the_log_names_it(self, tmp_path: Path) -> None:
        with recorded_log() as log:
            async with ruled(tmp_path) as client:
                secret = await made(client)
                await client.get("/v2/", headers=basic("pusher", secret))
        assert (log[-1]["auth.user.name"], log[-1]["auth.key.name"]) == ("pusher", "deploy")
        assert secret not in str(log)

    @pytest.mark.parametrize("owner", ["pusher", "robot$ci"])
    async def test_who_guesses_has_to_wait_and_its_owner_has_not(
        self, owner: str, tmp_path: Path
    ) -> None:
        async with ruled(tmp_path) as client:
            secret = await made(client, owner=owner)
            wrong = basic(owner, "dky_" + "x" * 32)
            statuses = [(await client.get("/v2/", headers=wrong)).status_code for _ in range(4)]
            assert statuses == [401, 401, 401, 429]
            assert (await client.get("/v2/", headers=basic(owner, secret))).status_code == 200


class TestEnd:
    async def test_when_it_is_revoked(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            own = basic("pusher", await made(client))
            query = {"scope": SCOPE, "offline_token": "true"}
            got = (await client.get("/auth/token", params=query, headers=own)).json()
            form = {
                "grant_type": "refresh_token",
                "refresh_token": got["refresh_token"],
                "scope": SCOPE,
            }
            assert (await client.post("/auth/token", data=form)).status_code == 200
            await revoke(client)
            await gone(client, own)
            await gone(client, bearer(got["token"]))
            assert (await client.post("/auth/token", data=form)).status_code == 401
            assert (await client.get("/auth/token", headers=own)).status_code == 401
            # One that is made with the name anew is another.
            await made(client)
            assert (await client.post(PUSH, headers=own)).status_code == 401
            assert (await client.post(PUSH, headers=bearer(got["token"]))).status_code == 401
            assert (await client.post("/auth/token", data=form)).status_code == 401

    async def test_when_its_time_is_over(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            expires = datetime.now(UTC) + timedelta(seconds=1)
            own = basic("pusher", await made(client, expires=expires.isoformat()))
            got = (await client.get("/auth/token", params={"scope": SCOPE}, headers=own)).json()
            assert (await client.post(PUSH, headers=own)).status_code == 202
            await gone(client, own)
            assert (await client.post(PUSH, headers=bearer(got["token"]))).status_code == 401
            (key,) = (await client.get(KEYS, headers=basic("admin"))).json()["keys"]
            assert key["useless"] == "expired"

    async def test_when_its_owner_is_gone(self, tmp_path: Path) -> None:
        async with ruled(tmp_path) as client:
            own = basic("pusher", await made(client))
            got = (await client.get("/auth/token", params={"scope": SCOPE}, headers=own)).json()
            (tmp_path / "htpasswd").write_text(f"admin:{HASH}\n")
            assert (await client.post(PUSH, headers=own)).status_code == 401
            assert (await client.post(PUSH, headers=bearer(got["token"]))).status_code == 401
            (key,) = (await client.get(KEYS, headers=basic("admin"))).json()["keys"]
            assert key["useless"] == "owner gone"

    async def test_when_the_state_database_is_deleted_and_passwords_stay(
        self, tmp_path: Path
    ) -> None:
        async with ruled(tmp_path) as client:
            own = basic("pusher", await made(client))
            assert (await client.post(PUSH, headers=own)).status_code == 202
            shutil.rmtree((tmp_path / "root" / layout.state_database()).parent)
            await gone(client, own)
            assert (await client.post(PUSH, headers=basic("pusher"))).status_code == 202

    async def test_what_can_not_be_told_is_neither_let_in_nor_called_wrong(
        self, tmp_path: Path
    ) -> None:
        async with ruled(tmp_path) as client:
            own = basic("pusher", await made(client))
            state = (tmp_path / "root" / layout.state_database()).parent
            shutil.rmtree(state)
            state.write_text("a file")
            assert (await client.post(PUSH, headers=own)).status_code == 503
            assert (await client.post(PUSH, headers=basic("pusher"))).status_code == 202


class TestWorkers:
    """Two workers, each with a memory of its own."""

    @staticmethod
    @asynccontextmanager
    async def two(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
        async with ruled(folder) as one, ruled(folder) as other:
            yield one, other

    async def test_a_new_key_is_good_in_all_of_them_at_once(self, tmp_path: Path) -> None:
        async with self.two(tmp_path) as (one, other):
            for number in range(3):
                own = basic("pusher", await made(one, name=f"k{number}"))
                assert (await other.post(PUSH, headers=own)).status_code == 202
                got = await token_of(one, own)
                assert (await other.post(PUSH, headers=bearer(got))).status_code == 202

    async def test_a_revoked_one_ends_in_all_of_them(self, tmp_path: Path) -> None:
        async with self.two(tmp_path) as (one, other):
            own = basic("pusher", await made(one))
            assert (await other.post(PUSH, headers=own)).status_code == 202
            await revoke(one)
            await gone(other, own)


async def token_of(client: httpx.AsyncClient, headers: dict[str, str]) -> str:
    answer = await client.get("/auth/token", params={"scope": SCOPE}, headers=headers)
    return str(answer.json()["token"])


class TestWithoutRules:
    """Whoever logs in may everything; a key is good for what it says."""

    @staticmethod
    @asynccontextmanager
    async def opened(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
        (folder / "htpasswd").write_text(f"admin:{HASH}\n")
        auth: dict[str, Any] = {"htpasswd": {"realm": "registry", "path": str(folder / "htpasswd")}}
        async with client_of(application(folder, auth=auth)) as client:
            yield client

    async def test_a_key_narrows(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as client:
            every = basic("admin", await made(client, name="every", owner="admin"))
            assert (await client.post(PUSH, headers=every)).status_code == 202
            wish = {"name": "some", "owner": "admin", "actions": ["pull"]}
            some = basic("admin", await made(client, **wish))
            assert (await client.get("/v2/", headers=some)).status_code == 200
            assert (await client.get("/v2/a/tags/list", headers=some)).status_code == 404
            assert (await client.post(PUSH, headers=some)).status_code == 403
            assert (await client.get("/v2/_catalog", headers=some)).status_code == 403
            assert (await client.get(KEYS, headers=some)).status_code == 403


async def test_a_password_that_only_looks_like_a_key_is_none(tmp_path: Path) -> None:
    async with ruled(tmp_path) as client:
        answer = await client.get("/v2/", headers=basic("admin", "dky_short"))
        assert answer.status_code == 401
        assert not (tmp_path / "root" / layout.state_database()).exists()
        assert await token(client, "admin", SCOPE)
