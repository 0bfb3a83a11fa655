"""The disk that keeps no more than POSIX promises, when a file moves to and fro."""

from tests.crash.strace import Call
from tests.crash.strict_posix import StrictDisk


ROOT = "/root"
PLACE, TRASH = f"{ROOT}/place/data", f"{ROOT}/trash/data"


def done(name: str, *paths: str) -> list[Call]:
    arguments = ", ".join(f'"{path}"' for path in paths)
    return [Call(name, arguments, 1, begins=True, succeeded=False), ended(name, arguments)]


def ended(name: str, arguments: str) -> Call:
    return Call(name, arguments, 1, begins=False, succeeded=True)


def synced(path: str) -> list[Call]:
    arguments = f"3<{path}>"
    return [Call("fsync", arguments, 1, begins=True, succeeded=False), ended("fsync", arguments)]


def disk(*more: list[Call]) -> StrictDisk:
    """Return one on which `PLACE` is durable, after `more` was done to it."""
    found = StrictDisk(ROOT)
    calls = [done("mkdir", f"{ROOT}/place"), done("mkdir", f"{ROOT}/trash"), synced(ROOT)]
    calls += [done("mkdir", f"{ROOT}/uploads"), synced(ROOT)]
    calls += [synced(PLACE), synced(f"{ROOT}/place")]
    for name in (PLACE, f"{ROOT}/uploads/new"):
        found._appear(name)  # noqa: SLF001 -- opening needs flags that say nothing here
    for call in [each for step in (*calls, *more) for each in step]:
        found.apply(call)
    assert not more or found.violations == []
    return found


def test_what_moved_is_in_either_place() -> None:
    moved = disk(done("rename", PLACE, TRASH))
    assert moved.survives(TRASH)
    assert not moved.is_durable(TRASH)


def test_what_moved_is_lost_when_only_its_removal_is_durable() -> None:
    assert not disk(done("rename", PLACE, TRASH), synced(f"{ROOT}/place")).survives(TRASH)


def test_what_moved_with_its_directory_gone_is_lost() -> None:
    moved = disk(done("rename", PLACE, TRASH), done("rmdir", f"{ROOT}/place"))
    assert not moved.survives(TRASH)


def test_what_moved_there_and_back_is_safe() -> None:
    there_and_back = disk(done("rename", PLACE, TRASH), done("rename", TRASH, PLACE))
    assert there_and_back.survives(PLACE)


def test_what_is_replaced_stays_one_of_the_two() -> None:
    assert disk(done("rename", f"{ROOT}/uploads/new", PLACE)).survives(PLACE)


def test_what_is_pushed_again_while_the_old_moves_away_is_safe() -> None:
    pushed = disk(done("rename", PLACE, TRASH), done("rename", f"{ROOT}/uploads/new", PLACE))
    assert pushed.survives(PLACE)


def test_what_is_new_is_lost_until_its_name_is_durable() -> None:
    target = f"{ROOT}/place/other"
    assert not disk(done("rename", f"{ROOT}/uploads/new", target)).survives(target)


def test_what_is_removed_after_it_was_replaced_is_gone() -> None:
    replaced = [done("rename", f"{ROOT}/uploads/new", PLACE), done("unlink", PLACE)]
    assert not disk(*replaced).survives(PLACE)
