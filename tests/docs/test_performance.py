"""`docs/explanation/performance.md` and its plots are what the results of the last run give."""

import json
from pathlib import Path

import pytest

from benchmarks.plots import plots
from benchmarks.report import PAGE, RESULTS, page
from benchmarks.rows import rows


REMEDY = "run make bench-report"
DOCUMENT = json.loads(RESULTS.read_text(encoding="utf-8"))


def test_the_page_is_what_the_results_give() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, DOCUMENT) == text, REMEDY


@pytest.mark.parametrize("path", plots(DOCUMENT), ids=lambda path: path.name)
def test_a_plot_is_what_the_results_give(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == plots(DOCUMENT)[path], REMEDY


def test_the_results_have_every_row_and_no_other() -> None:
    assert sorted(DOCUMENT["rows"]) == sorted(unique_rows())


def test_every_row_with_an_aim_names_rows_that_exist() -> None:
    keys = {row.key for row in rows()}
    assert {aim.row for row in rows() for aim in row.aims if aim.row} <= keys


def unique_rows() -> list[str]:
    keys = [row.key for row in rows()]
    assert len(set(keys)) == len(keys)
    return keys
