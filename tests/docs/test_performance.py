"""`docs/explanation/performance.md` and its plots are what the results of the last run give."""

import json
from pathlib import Path

import pytest

from benchmarks.contestants import OURS, V3
from benchmarks.plots import plots
from benchmarks.report import PAGE, RESULTS, Results, page
from benchmarks.rows import Aim, Row, rows
from tests.docs.markdown import ROOT, Page


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


class TestAims:
    """On a run where Dockyard needs half of distribution's CPU, and a token makes it dearer."""

    row: Row = next(row for row in rows() if row.key == "manifest-tag")
    token: Row = next(row for row in rows() if row.key == "token")
    results = Results(
        {
            "rows": {
                "manifest-tag": {
                    OURS: [{"cpu": 5.0, "errors": 0}, {"cpu": 4.0, "errors": 1}, {"cpu": 9.0}],
                    V3: [{"cpu": 10.0}],
                },
                "token": {OURS: [{"cpu": 6.0}, None]},
            }
        }
    )

    @pytest.mark.parametrize(
        ("aim", "expected"),
        [
            (Aim("cpu", 0.5, peer=V3), (0.5, True)),
            (Aim("cpu", 0.4, peer=V3), (0.5, False)),
            (Aim("cpu", 0.4, at_least=True, peer=V3), (0.5, True)),
            (Aim("cpu", 5), (5.0, True)),
            (Aim("errors", 0), (1, False)),
            (Aim("rate", 2, at_least=True, peer=V3), (None, False)),
        ],
        ids=str,
    )
    def test_an_aim_is_judged_by_the_median(
        self, aim: Aim, expected: tuple[float | None, bool]
    ) -> None:
        assert self.results.reached(self.row, aim) == expected

    def test_an_aim_may_look_at_another_row(self) -> None:
        aim = Aim("cpu", 1.3, row="manifest-tag")
        assert self.results.reached(self.token, aim) == (1.2, True)


IN_README = (
    *("manifest-tag", "small", "large-4", "storm-1", "mixed", "tags-10000", "catalog-10000"),
    *("push-large", "push-200", "push-existing"),
)
"""The rows of the README's table, in its order."""


@pytest.mark.parametrize(
    ("name", "heading", "suffix"), [("README.md", "Speed", "x"), ("README.zh-CN.md", "速度", " 倍")]
)
def test_the_readme_has_the_figures_of_the_last_run(name: str, heading: str, suffix: str) -> None:
    results = Results(DOCUMENT)

    def ratio(row: str, figure: str) -> str:
        ours, theirs = (results.median(row, each, figure) for each in (OURS, V3))
        assert ours
        assert theirs
        return f"{ours / theirs:.2g}{suffix}"

    shown = [list(row.values())[1:] for row in Page(ROOT / name).table(heading).rows]
    assert shown == [[ratio(row, "rate"), ratio(row, "cpu")] for row in IN_README]
