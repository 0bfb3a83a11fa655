"""Making and revoking API keys."""

from datetime import timedelta

import pytest

from dockyard.auth.apikeys import hash_secret, is_secret, make_secret
from dockyard.auth.errors import KeyInvalidError, KeyTakenError, KeyUnknownError
from dockyard.core import keys as module
from dockyard.core.keys import Keys, KeyWish
from dockyard.state.database import Database
from tests.unit.core.test_known_keys import People
from tests.unit.core.trees import NOW, now


WISH = KeyWish(name="deploy", owner="alice")


@pytest.fixture
async def keys() -> Keys:
    return Keys(Database(None), People(), now)


def test_secrets_are_long_random_and_known_by_their_form() -> None:
    made = {make_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(is_secret(secret) for secret in made)
    for other in ("", "dky_", "dky_short", "secret", f"{make_secret()}x", make_secret()[:-1]):
        assert not is_secret(other)


async def test_only_a_hash_of_the_secret_is_kept(keys: Keys) -> None:
    secret, key = await keys.create(WISH)
    assert await keys.list() == [key]
    assert secret not in repr(key)
    assert key.secret == hash_secret(secret)
    assert key.created == NOW


async def test_a_name_is_one_keys_until_that_is_revoked(keys: Keys) -> None:
    _, first = await keys.create(WISH)
    with pytest.raises(KeyTakenError, match="'deploy'"):
        await keys.create(WISH)
    await keys.revoke("deploy")
    with pytest.raises(KeyUnknownError, match="'deploy'"):
        await keys.revoke("deploy")
    with pytest.raises(KeyUnknownError, match="'deploy'"):
        await keys.find("deploy")
    _, second = await keys.create(WISH)
    assert first.identifier != second.identifier


async def test_there_is_room_for_so_many(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEYS", 1)
    await keys.create(WISH)
    with pytest.raises(KeyInvalidError, match="revoke some"):
        await keys.create(KeyWish(name="more", owner="alice"))


async def test_why_a_key_is_useless() -> None:
    people, clock = People(), [NOW]
    keys = Keys(Database(None), people, lambda: clock[0])
    wish = KeyWish(name="deploy", owner="alice", expires=NOW + timedelta(days=1))
    _, key = await keys.create(wish)
    assert keys.why_useless(key) == ""
    people.names.clear()
    assert keys.why_useless(key) == "owner gone"
    clock[0] += timedelta(days=1)
    assert keys.why_useless(key) == "expired"
