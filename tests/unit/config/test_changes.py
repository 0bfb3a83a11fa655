"""What is told of two configurations that differ."""

from pathlib import Path

import pytest

from dockyard.config import Settings, load
from dockyard.config.changes import changed


BASE = """
version: 0.1
storage: {filesystem: {rootdirectory: /data}}
http: {addr: ":5000"}
"""


def settings(folder: Path, text: str) -> Settings:
    path = folder / "config.yml"
    path.write_text(text)
    return load(path, {}).settings


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ("", "", []),
        ("/data", "/elsewhere", ["storage.filesystem.rootdirectory"]),
        ("{filesystem: {rootdirectory: /data}}", "inmemory", ["storage.filesystem"]),
        (":5000", ":5001", ["http.addr"]),
        ('{addr: ":5000"}', '{addr: ":5000", headers: {A: [b]}}', ["http.headers"]),
    ],
)
def test_keys_that_differ_are_named(tmp_path: Path, old: str, new: str, keys: list[str]) -> None:
    before, after = settings(tmp_path, BASE), settings(tmp_path, BASE.replace(old, new))
    found = list(changed(before, after))
    assert [key for key in found if key != "storage.inmemory"] == keys


def test_a_section_that_comes_is_one_key(tmp_path: Path) -> None:
    after = settings(tmp_path, BASE + "access: {groups: {a: [b]}}\n")
    assert list(changed(settings(tmp_path, BASE), after)) == ["access"]
    other = settings(tmp_path, BASE + "access: {groups: {a: [c]}}\n")
    assert list(changed(after, other)) == ["access.groups"]


def test_a_secret_that_changes_is_noticed_and_not_told(tmp_path: Path) -> None:
    text = BASE + "http: {addr: a, secret: %s}\n"
    text = text.replace('http: {addr: ":5000"}\n', "")
    before, after = settings(tmp_path, text % "one"), settings(tmp_path, text % "two")
    assert list(changed(before, after)) == ["http.secret"]
