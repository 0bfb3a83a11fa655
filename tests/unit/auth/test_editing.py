"""Changing the file of users."""

import fcntl
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dockyard.auth import editing
from dockyard.auth.editing import EditRefusedError, add, broken_lines, change, edit, remove, users
from dockyard.auth.htpasswd import FILE_LIMIT, HtpasswdInvalidError, parse
from dockyard.errors import StorageError


TEXT = "# who\nalice:1\n\nnonsense\nbob:2:x \r\nalice:3"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "'' is none"),
        ("a:b", "colon"),
        ("robot$ci", "robots"),
        ("#a", "comments"),
        (" a", "space"),
        ("a\x00", "control"),
        ("a\nb", "control"),
        ("\udcff", "UTF-8"),
        ("anonymous", "does not log in"),
    ],
)
def test_a_name_that_can_not_be_is_refused_with_the_name(name: str, reason: str) -> None:
    with pytest.raises(EditRefusedError, match=reason) as raised:
        editing.check_name(name)
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize("name", ["alice", "alice@example.com", "jörg", "a b", "x#"])
def test_other_names_are_taken(name: str) -> None:
    editing.check_name(name)


def test_a_user_is_added_after_what_is_there() -> None:
    assert add("", "carol", "h") == "carol:h\n"
    assert add(TEXT, "carol", "h") == f"{TEXT}\ncarol:h\n"
    with pytest.raises(EditRefusedError, match="a user 'bob' already"):
        add(TEXT, "bob", "h")


def test_every_line_of_a_user_changes_and_no_other() -> None:
    assert change(TEXT, "alice", "h") == "# who\nalice:h\n\nnonsense\nbob:2:x \r\nalice:h"
    assert change(TEXT, "bob", "h") == "# who\nalice:1\n\nnonsense\nbob:h\r\nalice:3"


def test_every_line_of_a_user_is_removed_and_no_other() -> None:
    assert remove(TEXT, "alice") == "# who\n\nnonsense\nbob:2:x \r"
    assert remove("alice:1\n", "alice") == ""


@pytest.mark.parametrize("name", ["carol", "", "# who", "nonsense"])
def test_who_is_not_there_is_not_changed(name: str) -> None:
    with pytest.raises(EditRefusedError, match="there is no user"):
        change(TEXT, name, "h")
    with pytest.raises(EditRefusedError, match="there is no user"):
        remove(TEXT, name)


def test_lines_because_of_which_nobody_can_log_in_are_told() -> None:
    assert broken_lines(TEXT) == [4]
    assert users(TEXT) == ["alice", "bob"]


@given(st.text(alphabet="ab:#\n\r \t\u2028é"))
def test_the_users_are_those_that_the_server_sees(text: str) -> None:
    assert bool(broken_lines(text)) is _is_broken(text)
    if not broken_lines(text):
        assert users(text) == list(parse(text))
        for name in users(text):
            assert list(parse(remove(text, name))) == [each for each in users(text) if each != name]
            assert parse(change(text, name, "h")) == {**parse(text), name: "h"}


def _is_broken(text: str) -> bool:
    try:
        parse(text)
    except HtpasswdInvalidError:
        return True
    return False


class TestFile:
    def test_what_is_no_text_stays_byte_for_byte(self, tmp_path: Path) -> None:
        path = tmp_path / "users"
        path.write_bytes(b"\xff\xfe:1\nalice:2\n")
        edit(path, lambda text: change(text, "alice", "3"))
        assert path.read_bytes() == b"\xff\xfe:1\nalice:3\n"

    def test_mode_owner_and_attributes_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "users"
        path.write_text("alice:1\n")
        path.chmod(0o640)
        if os.geteuid() == 0:
            os.chown(path, 12, 34)
        os.setxattr(path, "user.note", b"x")
        before = path.stat()
        edit(path, lambda text: remove(text, "alice"))
        after = path.stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (
            *(before.st_mode, before.st_uid, before.st_gid),
        )
        assert os.getxattr(path, "user.note") == b"x"
        assert after.st_ino != before.st_ino
        assert list(tmp_path.iterdir()) == [path]

    def test_a_link_stays_one(self, tmp_path: Path) -> None:
        path, link = tmp_path / "users", tmp_path / "link"
        path.write_text("alice:1\n")
        link.symlink_to("users")
        edit(link, lambda text: add(text, "bob", "2"))
        assert link.is_symlink()
        assert path.read_text() == "alice:1\nbob:2\n"

    def test_a_new_one_is_its_owners_only(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "users"
        edit(path, lambda text: add(text, "bob", "2"), make=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text() == "bob:2\n"

    def test_what_is_missing_or_no_file_is_told(self, tmp_path: Path) -> None:
        missing = tmp_path / "missing"
        with pytest.raises(StorageError, match=f"htpasswd: {missing} can't be changed: no such"):
            edit(missing, str)
        with pytest.raises(StorageError, match=f"htpasswd: {missing} can't be read: no such"):
            editing.read(missing)
        with pytest.raises(StorageError, match="is a directory"):
            edit(tmp_path, str)

    def test_one_that_is_too_large_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "users"
        with path.open("wb") as large:
            large.truncate(FILE_LIMIT + 1)
        with pytest.raises(StorageError, match=f"{path}: more than {FILE_LIMIT} bytes"):
            editing.read(path)
        with pytest.raises(StorageError, match=f"{path}: more than {FILE_LIMIT} bytes"):
            edit(path, lambda text: add(text, "bob", "2"))

    def test_one_that_was_replaced_while_it_was_waited_for_is_read_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "users"
        path.write_text("alice:1\n")
        taken = fcntl.flock

        def after_another(descriptor: int, operation: int) -> None:
            monkeypatch.setattr(fcntl, "flock", taken)
            edit(path, lambda text: add(text, "bob", "2"))
            taken(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", after_another)
        assert edit(path, lambda text: add(text, "carol", "3")) == "alice:1\nbob:2\ncarol:3\n"

    def test_one_that_was_removed_while_it_was_waited_for_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "users"
        path.write_text("alice:1\n")
        taken = fcntl.flock

        def after_removal(descriptor: int, operation: int) -> None:
            path.unlink(missing_ok=True)
            taken(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", after_removal)
        with pytest.raises(StorageError, match="no such file"):
            edit(path, lambda text: add(text, "bob", "2"))

    def test_one_that_is_locked_for_long_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(editing, "LOCK_SECONDS", 0.05)
        path = tmp_path / "users"
        path.write_text("alice:1\n")

        def while_locked(text: str) -> str:
            with pytest.raises(StorageError, match="another program has it locked"):
                edit(path, str)
            return text

        edit(path, while_locked)

    def test_what_fails_leaves_the_file_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "users"
        path.write_text("alice:1\n")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left"):
            edit(path, lambda text: add(text, "bob", "2"))
        assert path.read_text() == "alice:1\n"
        assert list(tmp_path.iterdir()) == [path]

    def test_of_many_at_once_none_is_lost(self, tmp_path: Path) -> None:
        path = tmp_path / "users"
        program = """
            import sys
            from pathlib import Path
            from dockyard.auth.editing import add, edit
            for number in range(20):
                name = f"{sys.argv[2]}-{number}"
                edit(Path(sys.argv[1]), lambda text: add(text, name, "h"), make=True)
        """
        running = [
            subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(path), str(one)])
            for one in range(4)
        ]
        assert [process.wait(60) for process in running] == [0] * 4
        assert set(users(path.read_text())) == {f"{a}-{b}" for a in range(4) for b in range(20)}
