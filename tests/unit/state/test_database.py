"""The state database: what it holds, and what happens to its files."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from dockyard.errors import StateError
from dockyard.oci.digest import Digest
from dockyard.state.database import Database
from dockyard.state.interface import Job, KeyRecord
from tests.inprocess import recorded_log
from tests.unit.core.trees import NOW


ONE, TWO, THREE = (Digest.of(text) for text in (b"one", b"two", b"three"))
TODAY = NOW.date()
DAY = timedelta(days=1)
KEY = KeyRecord(
    identifier="1a",
    name="deploy",
    owner="robot$ci",
    secret="00ff",
    actions=("pull", "push"),
    repositories=("team/**", "é"),
    created=NOW,
    expires=NOW + DAY,
)
FULL = 2
"""Source: https://www.sqlite.org/pragma.html#pragma_synchronous."""

FILES = ("state.db", "state.db-wal", "state.db-shm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is to be; its directory is not there yet."""
    return tmp_path / "state" / "state.db"


@pytest.fixture(params=["file", "memory"])
async def state(request: pytest.FixtureRequest, path: Path) -> Database:
    return Database(path if request.param == "file" else None)


class TestPulls:
    async def test_nothing_was_pulled_yet(self, state: Database) -> None:
        assert await state.pulled_since(date.min) == set()

    async def test_what_was_pulled_on_a_day_or_later(self, state: Database) -> None:
        await state.note_pulls({("a", ONE), ("a/b", ONE)}, TODAY - DAY)
        await state.note_pulls([("a", TWO)], TODAY)
        assert await state.pulled_since(TODAY - DAY) == {("a", ONE), ("a/b", ONE), ("a", TWO)}
        assert await state.pulled_since(TODAY) == {("a", TWO)}
        assert await state.pulled_since(TODAY + DAY) == set()

    async def test_the_last_day_counts_in_whichever_order_it_is_noted(
        self, state: Database
    ) -> None:
        for day in (TODAY - DAY, TODAY, TODAY - 2 * DAY):
            await state.note_pulls({("a", ONE)}, day)
        assert await state.pulled_since(TODAY) == {("a", ONE)}

    async def test_of_both_algorithms(self, state: Database) -> None:
        digest = Digest.of(b"one", "sha512")
        await state.note_pulls({("a", digest)}, TODAY)
        assert await state.pulled_since(TODAY) == {("a", digest)}

    async def test_nothing_to_note(self, state: Database) -> None:
        await state.note_pulls([], TODAY)
        assert await state.pulled_since(date.min) == set()

    async def test_many_at_once(self, state: Database) -> None:
        many = {("a", Digest.of(str(number).encode())) for number in range(5000)}
        await state.note_pulls(many, TODAY)
        assert await state.pulled_since(TODAY) == many

    async def test_what_is_old_is_forgotten(self, state: Database) -> None:
        await state.note_pulls({("a", ONE)}, TODAY - DAY)
        await state.note_pulls({("a", TWO)}, TODAY)
        await state.forget_pulls(TODAY)
        assert await state.pulled_since(date.min) == {("a", TWO)}


class TestJobs:
    async def test_nothing_is_known_of_a_job_that_never_ran(self, state: Database) -> None:
        assert await state.job("collection") is None

    async def test_the_last_run_is_known(self, state: Database) -> None:
        begun = Job("collection", NOW, None)
        ended = Job("collection", NOW + DAY, NOW + 2 * DAY, "3 blobs")
        other = Job("check", NOW, None)
        for job in (begun, other, ended):
            await state.note_job(job)
            assert await state.job(job.name) == job
        assert await state.job("check") == other


class TestKeys:
    async def test_a_key_is_as_it_was_made(self, state: Database) -> None:
        assert await state.keys() == []
        other = replace(KEY, identifier="2b", name="a", secret="11", expires=None)
        for key in (KEY, other):
            assert await state.add_key(key, most=2)
        assert await state.keys() == [other, KEY]

    async def test_a_name_and_room_are_given_once(self, state: Database) -> None:
        assert await state.add_key(KEY, most=2)
        assert not await state.add_key(replace(KEY, identifier="2b"), most=2)
        assert await state.add_key(replace(KEY, identifier="2b", name="b"), most=2)
        assert not await state.add_key(replace(KEY, identifier="3c", name="c"), most=2)
        assert len(await state.keys()) == 2

    async def test_a_key_is_removed_once(self, state: Database) -> None:
        await state.add_key(KEY, most=2)
        assert await state.remove_key("deploy")
        assert not await state.remove_key("deploy")
        assert await state.keys() == []

    async def test_each_change_is_a_version_and_use_is_none(self, state: Database) -> None:
        assert await state.keys_since("") == ("", None)
        await state.add_key(KEY, most=2)
        version, keys = await state.keys_since("")
        assert keys == [KEY]
        assert await state.keys_since(version) == (version, None)
        await state.note_keys_used({"1a": NOW + DAY, "other": NOW})
        await state.note_keys_used({"1a": NOW})
        await state.note_keys_used({})
        assert await state.keys_since(version) == (version, None)
        assert await state.keys() == [replace(KEY, used=NOW + DAY)]
        await state.remove_key("deploy")
        assert (await state.keys_since(version))[1] == []

    async def test_a_database_begun_anew_is_another_version(self, path: Path) -> None:
        state = Database(path)
        await state.add_key(KEY, most=2)
        version, _ = await state.keys_since("")
        shutil.rmtree(path.parent)
        assert await state.keys_since(version) == ("", [])
        await state.add_key(KEY, most=2)
        assert (await state.keys_since(version))[1] == [KEY]


class TestFile:
    async def test_it_is_made_when_it_is_first_needed(self, path: Path) -> None:
        state = Database(path)
        assert not path.parent.exists()
        assert await state.job("collection") is None
        assert path.exists()

    async def test_its_journal_is_a_write_ahead_log(self, path: Path) -> None:
        state = Database(path)
        await state.note_pulls({("a", ONE)}, TODAY)
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()
        await state.close()

    async def test_what_is_committed_is_synced(self, path: Path) -> None:
        state = Database(path)
        await state.note_pulls({("a", ONE)}, TODAY)
        assert (
            await state._run(  # noqa: SLF001 -- a power failure is not to be had here
                lambda connection: connection.exec_driver_sql("PRAGMA synchronous").scalar()
            )
            == FULL
        )
        await state.close()

    async def test_what_was_noted_is_there_after_closing(self, path: Path) -> None:
        state = Database(path)
        await state.note_pulls({("a", ONE)}, TODAY)
        await state.close()
        assert await state.pulled_since(TODAY) == {("a", ONE)}
        await state.close()
        assert await Database(path).pulled_since(TODAY) == {("a", ONE)}

    async def test_closing_what_was_never_opened(self, path: Path) -> None:
        await Database(path).close()
        assert not path.exists()

    async def test_one_in_memory_outlives_closing(self) -> None:
        state = Database(None)
        await state.note_pulls({("a", ONE)}, TODAY)
        await state.close()
        assert await state.pulled_since(TODAY) == {("a", ONE)}


class TestRemoved:
    """Whoever removes it while it is open: a new one is begun, and nothing raises."""

    @pytest.mark.parametrize(
        "names", [FILES, FILES[:1], FILES[1:], FILES[1:2], FILES[2:]], ids=" ".join
    )
    async def test_files_under_open_databases(self, path: Path, names: tuple[str, ...]) -> None:
        one, other = Database(path), Database(path)
        for number in range(5):
            await one.note_pulls({("a", ONE)}, TODAY)
            await other.note_pulls({("a", TWO)}, TODAY)
            for name in names:
                path.with_name(name).unlink(missing_ok=True)
            await one.note_job(Job("collection", NOW + number * DAY, None))
            assert await other.job("collection") == Job("collection", NOW + number * DAY, None)

    async def test_the_whole_directory(self, path: Path) -> None:
        one, other = Database(path), Database(path)
        for _ in range(3):
            await one.note_pulls({("a", ONE)}, TODAY)
            assert await other.pulled_since(TODAY) == {("a", ONE)}
            shutil.rmtree(path.parent)
            assert await other.pulled_since(TODAY) == set()

    async def test_one_that_is_replaced_is_read(self, path: Path, tmp_path: Path) -> None:
        """Somebody restores a backup."""
        backup = Database(tmp_path / "backup.db")
        await backup.note_pulls({("a", TWO)}, TODAY)
        await backup.close()
        state = Database(path)
        await state.note_pulls({("a", ONE)}, TODAY)
        for name in FILES[1:]:
            path.with_name(name).unlink()
        (tmp_path / "backup.db").replace(path)
        assert await state.pulled_since(TODAY) == {("a", TWO)}


class TestDamaged:
    @pytest.mark.parametrize(
        "damage", [b"no database at all, but long enough to have a header" * 100, b"short"]
    )
    async def test_it_is_set_aside_and_a_new_one_begun(self, path: Path, damage: bytes) -> None:
        path.parent.mkdir()
        path.write_bytes(damage)
        state = Database(path)
        with recorded_log() as log:
            await state.note_pulls({("a", ONE)}, TODAY)
        assert await state.pulled_since(TODAY) == {("a", ONE)}
        assert [entry["path"] for entry in log] == [str(path)]
        (aside,) = path.parent.glob("state.db.damaged-*")
        assert aside.read_bytes() == damage

    async def test_under_an_open_database(self, path: Path) -> None:
        state = Database(path)
        await state.note_pulls({("a", Digest.of(bytes([n]))) for n in range(200)}, TODAY)
        await state.close()
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        path.write_bytes(content)
        assert await state.pulled_since(TODAY) == set()
        await state.note_pulls({("a", ONE)}, TODAY)
        assert await state.pulled_since(TODAY) == {("a", ONE)}

    async def test_an_empty_file_is_a_new_one(self, path: Path) -> None:
        path.parent.mkdir()
        path.touch()
        assert await Database(path).pulled_since(TODAY) == set()
        assert not list(path.parent.glob("*damaged*"))

    async def test_one_of_a_newer_version_is_left_alone(self, path: Path) -> None:
        state = Database(path)
        await state.note_pulls({("a", ONE)}, TODAY)
        await state.close()
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.close()
        with pytest.raises(StateError, match="9999") as caught:
            await Database(path).job("collection")
        assert caught.value.path == str(path)
        assert path.exists()


class TestUnusable:
    async def test_a_file_where_its_directory_should_be(self, path: Path) -> None:
        path.parent.write_text("a file")
        await self.assert_refused(path, "File exists|Not a directory")

    async def test_a_directory_in_its_place(self, path: Path) -> None:
        path.mkdir(parents=True)
        await self.assert_refused(path, "unable to open database file")

    async def test_a_directory_that_nobody_may_write_to(self) -> None:
        """root may write anywhere, so this is a directory of the kernel's."""
        await self.assert_refused(Path("/proc/self/state/state.db"), "No such file|not permitted")

    async def test_a_lock_that_is_never_released(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dockyard.state.database.BUSY_SECONDS", 0.05)
        state = Database(path)
        await state.note_pulls({("a", ONE)}, TODAY)
        with sqlite3.connect(path, isolation_level=None) as connection:
            connection.execute("BEGIN IMMEDIATE")
            await self.assert_refused(path, "database is locked")
        connection.close()
        assert await state.pulled_since(TODAY) == {("a", ONE)}

    async def test_it_is_tried_again(self, path: Path) -> None:
        path.parent.write_text("a file")
        state = Database(path)
        with pytest.raises(StateError):
            await state.job("collection")
        path.parent.unlink()
        assert await state.job("collection") is None

    @staticmethod
    async def assert_refused(path: Path, reason: str) -> None:
        state = Database(path)
        with pytest.raises(StateError, match=reason) as caught:
            await state.note_job(Job("collection", NOW, None))
        assert caught.value.path == str(path)
        assert str(path) in str(caught.value)
        assert caught.value.__cause__ is not None


class TestProcesses:
    PROGRAM = """
        import asyncio, sys
        from datetime import date
        from pathlib import Path
        from dockyard.oci.digest import Digest
        from dockyard.state.database import Database

        async def main(path, name, times):
            state = Database(Path(path))
            for number in range(int(times)):
                await state.note_pulls({(name, Digest.of(str(number).encode()))}, date(2026, 1, 31))
            await state.close()

        asyncio.run(main(*sys.argv[1:]))
    """

    @pytest.mark.parametrize(
        ("processes", "times"), [(6, 1), (4, 50)], ids=["opening at once", "writing at once"]
    )
    def test_nobody_gets_in_the_way_of_another(
        self, path: Path, processes: int, times: int
    ) -> None:
        program = [sys.executable, "-c", textwrap.dedent(self.PROGRAM), str(path)]
        running = [
            subprocess.Popen([*program, f"n{number}", str(times)], stderr=subprocess.PIPE)
            for number in range(processes)
        ]
        for process in running:
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said.decode()
        pulled = asyncio.run(Database(path).pulled_since(TODAY))
        assert pulled == {
            (f"n{process}", Digest.of(str(number).encode()))
            for process in range(processes)
            for number in range(times)
        }
