"""What the commands share that look at a storage."""

from pathlib import Path

import pytest

from dockyard.cli.inspecting import human, tell_doubts
from tests.unit.cli.trees import registry


DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (5000 << 50, "5000.0 PiB"),
    ],
)
def test_sizes_are_as_people_read_them(size: int, text: str) -> None:
    assert human(size) == text


@pytest.mark.parametrize(
    ("doubts", "is_partial", "status", "said"),
    [
        pytest.param({}, False, 0, "", id="none"),
        pytest.param(
            {"x/link": "damaged"},
            False,
            1,
            "can't read x/link: damaged\n"
            "what these might need is kept: push it again, or delete it\n",
            id="link",
        ),
        pytest.param(
            {"x": "Input/output error"},
            True,
            1,
            "can't read x: Input/output error\n"
            "a directory can't be listed: until it can, nothing is collected\n",
            id="directory",
        ),
    ],
)
def test_doubts_are_told_on_standard_error(
    capsys: pytest.CaptureFixture[str],
    doubts: dict[str, str],
    *,
    is_partial: bool,
    status: int,
    said: str,
) -> None:
    assert tell_doubts(doubts, is_partial=is_partial) == status
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("arguments", [["du"], ["explain", DIGEST]], ids=["du", "explain"])
@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        pytest.param("version: [\n", "configuration error: ", id="yaml"),
        pytest.param(
            "version: 0.1\nstorage: {inmemory: {}}\nhttp: {addr: ':0'}\n",
            "what is in the memory of a server can't be reached",
            id="inmemory",
        ),
        pytest.param(
            "version: 0.1\nstorage: {filesystem: {rootdirectory: /nonexistent}}\n"
            "http: {addr: ':0'}\n",
            "nothing was ever pushed to storage.filesystem.rootdirectory",
            id="no tree",
        ),
    ],
)
def test_a_storage_that_cannot_be_looked_at(
    tmp_path: Path, arguments: list[str], configuration: str, said: str
) -> None:
    config = tmp_path / "config.yml"
    config.write_text(configuration)
    result = registry(*arguments, "--config", config)
    assert result.returncode == 1
    assert result.stdout == ""
    assert said in result.stderr
    assert "Traceback" not in result.stderr
