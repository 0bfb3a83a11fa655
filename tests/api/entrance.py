"""A registry with rules, and how its clients say who they are."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import bcrypt
import httpx

from dockyard.auth.actions import Action
from tests.inprocess import application, client_of


PASSWORD: Final = "secret"
HASH: Final = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
RULES: Final = [
    {"repositories": ["secret/**"], "actions": ["*"], "who": ["group:admins"]},
    {"repositories": ["secret/**"], "actions": ["*"], "who": ["anonymous"], "effect": "deny"},
    {"repositories": ["**"], "actions": ["pull", "catalog"], "who": ["anonymous"]},
    {"repositories": ["team/*"], "actions": ["push"], "who": ["user:pusher", "robot:ci"]},
    {"repositories": ["**"], "actions": ["*"], "who": ["group:admins"]},
]
MAY: Final = {
    "": {Action.PULL, Action.CATALOG},
    "reader": {Action.PULL, Action.CATALOG},
    "pusher": {Action.PULL, Action.CATALOG, Action.PUSH},
    "robot$ci": {Action.PULL, Action.CATALOG, Action.PUSH},
    "admin": {Action.PULL, Action.CATALOG, Action.PUSH, Action.DELETE, Action.ADMIN},
}
"""What each principal may do to the repository ``team/a``, by the rules above."""


def basic(login: str, password: str = PASSWORD) -> dict[str, str]:
    if not login:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def ruled(folder: Path, **access: object) -> AsyncIterator[httpx.AsyncClient]:
    users = folder / "htpasswd"
    users.write_text("".join(f"{name}:{HASH}\n" for name in ("reader", "pusher", "admin")))
    section = {
        "groups": {"admins": ["admin"]},
        "robots": {"ci": {"hash": HASH}},
        "rules": RULES,
        **access,
    }
    auth = {"htpasswd": {"realm": "registry", "path": str(users)}}
    async with client_of(application(folder, auth=auth, access=section)) as client:
        yield client


async def token(client: httpx.AsyncClient, login: str, *scopes: str) -> str:
    answer = await client.get("/auth/token", params={"scope": list(scopes)}, headers=basic(login))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])
