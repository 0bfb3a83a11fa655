import asyncio
import gc

import pytest

from dockyard.core.sharing import Shared


class Tree:
    """Something that changes, and looks at it that take a while."""

    def __init__(self) -> None:
        self.state = 0
        self.looks = 0
        self.may_end = asyncio.Event()
        self.began = asyncio.Event()

    async def look(self) -> int:
        self.looks += 1
        self.began.set()
        seen = self.state
        await self.may_end.wait()
        return seen


async def test_who_asks_at_once_shares_a_look() -> None:
    tree, shared = Tree(), Shared[int]()
    tree.may_end.set()
    assert await asyncio.gather(*(shared.get("a", tree.look) for _ in range(5))) == [0] * 5
    assert tree.looks == 1
    await asyncio.gather(*(shared.get(key, tree.look) for key in "abc"))
    assert tree.looks == 4


async def test_who_asks_while_a_look_is_under_way_gets_another() -> None:
    """What was there before it asked is in its answer: the look under way may have missed it."""
    tree, shared = Tree(), Shared[int]()
    early = asyncio.create_task(shared.get("a", tree.look))
    await tree.began.wait()
    tree.state = 1
    tree.began.clear()
    late = asyncio.create_task(shared.get("a", tree.look))
    await tree.began.wait()
    tree.may_end.set()
    assert [await early, await late] == [0, 1]


async def test_who_is_cut_off_does_not_take_it_from_the_others() -> None:
    tree, shared = Tree(), Shared[int]()
    first, second = (asyncio.create_task(shared.get("a", tree.look)) for _ in range(2))
    await tree.began.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    tree.may_end.set()
    assert await second == 0


async def test_a_failure_is_everybodys_and_is_not_kept() -> None:
    shared, failing = Shared[int](), True

    async def look() -> int:
        if failing:
            raise OSError("trouble")
        return 1

    results = await asyncio.gather(
        *(shared.get("a", look) for _ in range(2)), return_exceptions=True
    )
    assert [type(result) for result in results] == [OSError, OSError]
    failing = False
    assert await shared.get("a", look) == 1


async def test_a_failure_that_nobody_waits_for_is_none() -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    shared, may_fail, began = Shared[int](), asyncio.Event(), asyncio.Event()

    async def look() -> int:
        began.set()
        await may_fail.wait()
        raise OSError

    asking = asyncio.create_task(shared.get("a", look))
    await began.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    may_fail.set()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert told == []
