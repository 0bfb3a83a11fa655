import asyncio
from dataclasses import dataclass, field

import bcrypt
import pytest

from dockyard.auth.accounts import Account
from dockyard.auth.errors import LoginRefusedError, TooManyLoginsError
from dockyard.auth.logins import QUEUE_OF_ADDRESS, REMEMBERED_SECONDS, Logins
from dockyard.auth.principal import user
from dockyard.auth.throttle import FREE_FAILURES, REMEMBERED, Throttle


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


@dataclass
class Table:
    hashes: dict[str, str] = field(default_factory=lambda: {"alice": hashed("secret")})

    def find(self, login: str) -> Account | None:
        found = self.hashes.get(login)
        return None if found is None else Account(user(login), found)


@dataclass
class Hands:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_who_has_the_password_is_let_in_and_nobody_else() -> None:
    logins = Logins(Table())
    assert (await logins.check("alice", "secret", "a")).name == "alice"
    for name, password in (("alice", "wrong"), ("bob", "secret"), ("alice", "")):
        with pytest.raises(LoginRefusedError):
            await logins.check(name, password, "a")


async def test_a_right_password_is_remembered_until_the_line_changes() -> None:
    table, hands = Table(), Hands()
    logins = Logins(table, hands)
    await logins.check("alice", "secret", "a")
    before = table.hashes["alice"]
    table.hashes["alice"] = hashed("other")
    with pytest.raises(LoginRefusedError):
        await logins.check("alice", "secret", "a")
    table.hashes["alice"] = before
    await logins.check("alice", "secret", "a")
    hands.now += REMEMBERED_SECONDS
    await logins.check("alice", "secret", "a")


async def test_who_guesses_waits_longer_each_time_and_others_do_not() -> None:
    hands = Hands()
    logins = Logins(Table(), hands)
    for _ in range(FREE_FAILURES):
        with pytest.raises(LoginRefusedError):
            await logins.check("alice", "wrong", "guesser")
    with pytest.raises(TooManyLoginsError) as raised:
        await logins.check("alice", "secret", "guesser")
    assert raised.value.seconds == 1
    assert (await logins.check("alice", "secret", "elsewhere")).name == "alice"
    hands.now += 1
    assert (await logins.check("alice", "secret", "guesser")).name == "alice"


async def test_one_address_can_not_fill_the_queue() -> None:
    logins = Logins(Table())
    many = [logins.check(f"user{n}", "x", "attacker") for n in range(QUEUE_OF_ADDRESS * 3)]
    results, (good,) = await asyncio.gather(
        asyncio.gather(*many, return_exceptions=True),
        asyncio.gather(logins.check("alice", "secret", "elsewhere")),
    )
    turned_away = [each for each in results if isinstance(each, TooManyLoginsError)]
    assert len(turned_away) == QUEUE_OF_ADDRESS * 2
    assert good.name == "alice"


async def test_many_at_once_with_the_same_password_are_one_to_hash() -> None:
    logins = Logins(Table())
    many = [logins.check("alice", "secret", "proxy") for _ in range(QUEUE_OF_ADDRESS * 20)]
    assert {each.name for each in await asyncio.gather(*many)} == {"alice"}
    many = [logins.check("alice", "wrong", "guesser") for _ in range(QUEUE_OF_ADDRESS * 2)]
    results = await asyncio.gather(*many, return_exceptions=True)
    assert {type(each) for each in results} == {LoginRefusedError}
    assert (await logins.check("alice", "secret", "proxy")).name == "alice"


def test_the_delay_doubles_to_a_minute_and_is_forgotten() -> None:
    hands = Hands()
    throttle = Throttle(hands)
    delays = []
    for _ in range(FREE_FAILURES + 8):
        throttle.failed("a", "x")
        delays.append(throttle.delay("a", "x"))
    assert delays == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    hands.now += 900
    assert throttle.delay("a", "x") == 0


def test_the_memory_of_failures_is_bounded() -> None:
    throttle = Throttle(Hands())
    for number in range(REMEMBERED + 5):
        throttle.failed(str(number), "x")
    assert len(throttle._failures) == REMEMBERED  # noqa: SLF001
