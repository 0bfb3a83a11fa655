"""What `garbage-collect` prints. That it collects is tested beside distribution, in takeover."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dockyard.cli.garbage_collect import (
    REDRAWN,
    Counter,
    Printer,
    garbage_collect,
    render,
    report,
)
from dockyard.core.collector import Collected
from dockyard.oci.digest import Digest


KEPT, LAYER, GONE = (Digest.of(text, "sha256") for text in (b"kept", b"layer", b"gone"))


def tell(printer: Printer) -> None:
    """Tell a printer what a collection with `-m` finds, in the collector's order."""
    printer.repository("a")
    printer.manifest("a", KEPT)
    printer.blob("a", LAYER)
    printer.untagged("a", GONE, ["1", "latest"])
    printer.repository("b")
    printer.tagless("b")
    printer.summary(2, 1, 1)
    printer.manifest("b", KEPT)  # by the second look
    printer.goes(GONE, 7)
    printer.unlinks("a", GONE)


def test_lines_and_their_order_are_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Printer(quiet=False, counts=False))
    said = capsys.readouterr()
    assert said.out == (
        "a\n"
        f"a: marking manifest {KEPT} \n"
        f"a: marking blob {LAYER}\n"
        "b\n"
        "manifest tags path of repository b does not exist\n"
        f"manifest eligible for deletion: {{a {GONE} [1 latest]}}\n"
        "\n"
        "2 blobs marked, 1 blobs and 1 manifests eligible for deletion\n"
        f"blob eligible for deletion: {GONE}\n"
        f"a: layer link eligible for deletion: {GONE}\n"
    )
    assert said.err == ""


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Printer(quiet=True, counts=False))
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_read_is_told_once_even_if_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printer = Printer(quiet=True, counts=False)
    for _ in range(2):
        printer.doubt("x/link", "damaged link x/link")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "can't read x/link: damaged link x/link; all that it might need is kept\n"
    assert printer.doubts == [("x/link", "damaged link x/link")]


def test_the_counter_is_drawn_and_cleared_before_other_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printer = Printer(quiet=True, counts=True)
    tell(printer)
    # click leaves out what clears the line's end where there is no terminal
    assert capsys.readouterr().err == "\r1 manifests and blobs marked\r"


def test_the_counter_is_redrawn_no_faster_than_one_can_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = iter([100, 100 + REDRAWN / 2, 100 + 2 * REDRAWN])
    counter = Counter(lambda: next(now))
    for _ in range(3):
        counter.count()
    assert capsys.readouterr().err == (
        "\r1 manifests and blobs marked\r3 manifests and blobs marked"
    )


def test_json_says_all_that_a_collection_did() -> None:
    printer = Printer(quiet=True, counts=False)
    printer.summary(2, 1, 1)
    collected = Collected(
        blobs={GONE: 7},
        destroyed={GONE},
        manifests=[("a", GONE)],
        links=[("a", LAYER)],
        spared=[KEPT],
        expired=["an item"],
        doubts=["x/link"],
    )
    printer.doubts.append(("x/link", "damaged"))
    assert json.loads(render(collected, printer, dry_run=True, delete_untagged=False)) == {
        "dryRun": True,
        "deleteUntagged": False,
        "marked": 2,
        "blobs": [{"digest": str(GONE), "size": 7}],
        "manifests": [{"repository": "a", "digest": str(GONE)}],
        "links": [{"repository": "a", "digest": str(LAYER)}],
        "spared": [str(KEPT)],
        "expired": ["an item"],
        "doubts": [{"path": "x/link", "reason": "damaged"}],
        "freed": 7,
    }


@pytest.mark.parametrize(
    ("collected", "dry_run", "status", "said"),
    [
        pytest.param(
            Collected({GONE: 7}, {GONE}), True, 0, "7 bytes would be freed\n", id="dry run"
        ),
        pytest.param(Collected({GONE: 7}, {GONE}), False, 0, "", id="not a terminal"),
        pytest.param(
            Collected(spared=[KEPT]),
            False,
            0,
            "1 blobs were needed after all, and kept\n",
            id="spared",
        ),
        pytest.param(
            Collected(doubts=["x", "x", "y"]),
            False,
            1,
            "2 paths could not be read; what they might need was kept\n",
            id="doubts",
        ),
    ],
)
def test_the_report_on_standard_error(
    capsys: pytest.CaptureFixture[str],
    collected: Collected,
    *,
    dry_run: bool,
    status: int,
    said: str,
) -> None:
    assert report(collected, dry_run=dry_run, quiet=False) == status
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 0.1\nstorage: {nosuch: {}}\n", ":2: storage.nosuch: is no type of storage"),
        ("version: [\n", "not valid YAML at line 2"),
        (None, "can't read the configuration"),
    ],
    ids=["driver", "yaml", "missing"],
)
def test_a_mistake_in_the_configuration_is_told_with_the_usage(
    tmp_path: Path, text: str | None, said: str
) -> None:
    file = tmp_path / "config.yml"
    if text is not None:
        file.write_text(text)
    result = CliRunner().invoke(garbage_collect, [str(file)], standalone_mode=False)
    assert result.return_value == 1
    assert result.stdout == ""
    first, *_, usage = result.stderr.splitlines()
    assert first.startswith(f"configuration error: {file}")
    assert said in result.stderr
    assert usage.startswith("Usage: ")
