import stat
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given, strategies as st

from dockyard.auth.htpasswd import (
    FILE_LIMIT,
    HtpasswdFile,
    HtpasswdInvalidError,
    hash_password,
    matches,
    normalise,
    parse,
    provision,
)


HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def test_comments_and_empty_lines_are_left_out_and_the_last_of_a_name_counts() -> None:
    assert parse(f"# a:b\n\n  \r\nalice:1\n bob:x:y \r\nalice:{HASH}") == {
        "alice": HASH,
        "bob": "x:y",
    }


def test_a_line_without_a_colon_is_told_by_its_number_and_not_repeated() -> None:
    with pytest.raises(HtpasswdInvalidError, match="line 2") as raised:
        parse("a:b\nhunter2", "f")
    assert "hunter2" not in str(raised.value)


@given(st.text())
def test_whatever_is_in_the_file_is_read_or_refused_by_name(text: str) -> None:
    try:
        entries = parse(text)
    except HtpasswdInvalidError:
        return
    assert all(normalise(hashed) or True for hashed in entries.values())


@pytest.mark.parametrize("version", ["2a", "2b", "2y", "2x", "2"])
def test_every_version_of_bcrypt_is_taken_as_go_takes_it(version: str) -> None:
    assert matches("secret", HASH.replace("$2b$", f"${version}$", 1))


@pytest.mark.parametrize(
    "hashed",
    ["secret", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "$apr1$a$b", "$2b$31$" + "a" * 53, None],
)
def test_without_a_usable_hash_no_password_is_right(hashed: str | None) -> None:
    assert not matches("secret", hashed)


def test_only_the_first_72_bytes_of_a_password_count_as_in_go() -> None:
    hashed = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert matches("x" * 80, hashed)
    with pytest.raises(ValueError, match="at most 72"):
        hash_password("x" * 73)


def test_the_bits_of_a_salt_that_mean_nothing_do_not_count() -> None:
    salt_end = HASH[28]
    alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    other = alphabet[alphabet.index(salt_end) | 1]
    assert matches("secret", HASH[:28] + other + HASH[29:])


def test_a_missing_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "made" / "htpasswd"
    provision(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(parse(path.read_text())) == ["docker"]
    assert list(path.parent.iterdir()) == [path]
    before = path.read_text()
    provision(path)
    assert path.read_text() == before


def test_a_changed_file_is_read_again_and_a_broken_one_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    path.write_text("alice:1")
    file = HtpasswdFile(path)
    assert file.find("alice") == "1"
    assert file.find("bob") is None
    path.write_text("alice:1\nbob:22")
    assert file.find("bob") == "22"
    path.write_text("alice:1\nbroken")
    for _ in range(2):
        with pytest.raises(HtpasswdInvalidError):
            file.find("alice")
    path.unlink()
    with pytest.raises(HtpasswdInvalidError, match="no such file"):
        file.find("alice")


def test_a_file_that_is_too_large_or_none_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    path.write_text("alice:1\n" + "#" * FILE_LIMIT)
    file = HtpasswdFile(path)
    with pytest.raises(HtpasswdInvalidError, match=f"more than {FILE_LIMIT} bytes"):
        file.find("alice")
    path.unlink()
    path.mkdir()
    for _ in range(2):
        with pytest.raises(HtpasswdInvalidError, match="is a directory"):
            file.find("alice")


def test_what_bcrypt_can_not_hash_is_nobodys_password() -> None:
    assert not matches("secret\0", HASH)
    assert not matches("", HASH)
