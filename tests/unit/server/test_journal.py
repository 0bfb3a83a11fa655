"""The file of the audit log: many writers, rotation, and disks that do not take it."""

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from dockyard.server.journal import JournalError, JournalFile
from tests.inprocess import recorded_log


def in_processes(count: int, work: Callable[[int], None]) -> None:
    """Call `work` in `count` processes at once."""
    children = []
    for number in range(count):
        child = os.fork()
        if not child:
            status = 1
            try:
                work(number)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * count


def files(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}*"))


def test_every_line_of_every_process_is_there_once_across_rotations(tmp_path: Path) -> None:
    path, lines = tmp_path / "audit.log", 400

    def work(number: int) -> None:
        journal = JournalFile(path, maxsize=4000, maxfiles=1000)
        for line in range(lines):
            journal.write(json.dumps({"process": number, "line": line, "agent": "x" * (line % 90)}))

    in_processes(4, work)
    written = [line for file in files(path) for line in file.read_text().splitlines()]
    found = [json.loads(line) for line in written if line]
    each = sorted((event["process"], event["line"]) for event in found)
    assert each == [(number, line) for number in range(4) for line in range(lines)]
    assert len(files(path)) > 10


def test_only_so_many_older_files_are_kept_the_youngest_first(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    journal = JournalFile(path, maxsize=4, maxfiles=2)
    for line in ("one", "two", "three", "four"):
        journal.write(line)
    assert [file.name for file in files(path)] == ["audit.log", "audit.log.1", "audit.log.2"]
    assert [file.read_text() for file in files(path)] == ["four\n", "three\n", "two\n"]


def test_without_a_size_nothing_is_rotated(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path / "audit.log")
    for _ in range(100):
        journal.write("x" * 1000)
    assert files(tmp_path / "audit.log") == [tmp_path / "audit.log"]


@pytest.mark.parametrize("how", ["renamed", "removed", "reopened"])
def test_a_file_that_somebody_else_moved_is_followed(tmp_path: Path, how: str) -> None:
    path = tmp_path / "audit.log"
    journal = JournalFile(path)
    journal.write("one")
    if how == "removed":
        path.unlink()
    else:
        path.replace(tmp_path / "moved")
    if how == "reopened":
        journal.reopen()
        assert path.read_text() == ""
    journal.write("two")
    assert path.read_text() == "two\n"


def test_a_line_after_half_a_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text('{"half":')
    JournalFile(path).write("{}")
    assert path.read_text() == '{"half":\n{}\n'


def test_it_is_its_owners_only(tmp_path: Path) -> None:
    JournalFile(tmp_path / "audit.log").write("one")
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_fails_nothing_and_is_told_once_a_minute(tmp_path: Path) -> None:
    path, now = tmp_path / "audit.log", [0.0]

    def work(_: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
        with recorded_log() as entries:
            journal = JournalFile(path, clock=lambda: now[0])
            journal.write("0123456")
            for _ in range(5):
                journal.write("lost")
            assert [entry["lost"] for entry in entries] == [1]
            assert entries[0]["reason"]
            now[0] = 61.0
            journal.write("lost")
            assert [entry["lost"] for entry in entries] == [1, 5]
            journal.write("lost")
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
            now[0] = 122.0
            journal.write("kept")
            journal.write("kept")
            assert [entry["event"] for entry in entries][2:] == ["audit lines were lost"]

    in_processes(1, work)
    lines = path.read_text().splitlines()
    assert lines[0] == "0123456"
    assert lines[-2:] == ["kept", "kept"]


def test_where_it_can_not_be_rotated_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.log"
    (tmp_path / "audit.log.1").mkdir()  # in the way
    (tmp_path / "audit.log.1" / "x").touch()
    monkeypatch.chdir(tmp_path)
    with recorded_log() as entries:
        journal = JournalFile(path, maxsize=4)
        for line in ("one", "two", "three"):
            journal.write(line)
    assert path.read_text() == "one\ntwo\nthree\n"
    assert [entry["event"] for entry in entries] == ["audit log not rotated"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "absent"])
def test_what_can_not_be_written_is_known_at_the_start(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "audit.log"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            path = tmp_path / "absent" / "audit.log"
    with pytest.raises(JournalError, match=rf"^audit\.path: can't write to {path}: [a-z ]+$"):
        JournalFile(path).check()
