"""From the results to what people read: the table on the console and in the documents, the plots.

    .venv/bin/python -m benchmarks.report

writes ``docs/explanation/performance.md`` between its markers, and the plots beside it.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from benchmarks.contestants import NGINX, OURS, ROOT, V2, V3, ZOT
from benchmarks.measures import Unit
from benchmarks.rows import EVERYONE, Aim, Row, rows


RESULTS: Final = ROOT / "benchmarks/results/comparison.json"
PAGE: Final = ROOT / "docs/explanation/performance.md"
BEGIN: Final = "<!-- figures: from benchmarks/results/comparison.json by benchmarks/report.py -->"
END: Final = "<!-- end of the figures -->"
WHOLE: Final = 5
"""Rounds below which a run was only to try the benchmark."""

TRIAL: Final = (
    "**A trial, of fewer rounds than count ({rounds}, {seconds:.0f} s a load), beside other work: "
    "it shows that the benchmark works, and nothing else.**"
)

FIGURES: Final = {
    "rate": "throughput",
    "cpu": "CPU",
    "p50": "p50",
    "p99": "p99",
    "p999": "p99.9",
    "memory": "memory",
    "each": "memory for each",
    "seconds": "time",
    "errors": "errors",
}

Document = Mapping[str, Any]


class Results:
    """What a run found, by row, contestant and figure."""

    def __init__(self, document: Document) -> None:
        self.document: Final = document
        self._rows: Final[Mapping[str, Mapping[str, Sequence[Mapping[str, float] | None]]]] = (
            document["rows"]
        )

    def values(self, row: str, name: str, figure: str) -> list[float]:
        """Return a figure in all rounds."""
        rounds = self._rows.get(row, {}).get(name, ())
        return [found[figure] for found in rounds if found is not None and figure in found]

    def median(self, row: str, name: str, figure: str) -> float | None:
        """Return the median of a figure; the most, if it is the errors; `None` if there is none."""
        values = self.values(row, name, figure)
        if not values:
            return None
        return max(values) if figure == "errors" else statistics.median(values)

    def spread(self, row: str, name: str, figure: str) -> float:
        """Return half of what lies between the least and the most, as a share of the median."""
        values = self.values(row, name, figure)
        middle = statistics.median(values)
        return (max(values) - min(values)) / 2 / middle if middle else 0.0

    def names(self, row: str) -> list[str]:
        """Return who took part in a row."""
        return list(self._rows.get(row, {}))

    def contestants(self) -> list[str]:
        """Return who took part at all."""
        there = {name for row in rows() for name in self.names(row.key)}
        return [name for name in EVERYONE if name in there]

    def ratio(self, row: str, figure: str, peer: str) -> float | None:
        """Return Dockyard's figure divided by a peer's."""
        return quotient(self.median(row, OURS, figure), self.median(row, peer, figure))

    def reached(self, row: Row, aim: Aim) -> tuple[float | None, bool]:
        """Return what Dockyard has of an aim, and whether that is enough."""
        found = self.median(row.key, OURS, aim.figure)
        if aim.peer:
            found = quotient(found, self.median(row.key, aim.peer, aim.figure))
        elif aim.row:
            found = quotient(found, self.median(aim.row, OURS, aim.figure))
        if found is None:
            return None, False
        return found, found >= aim.bound if aim.at_least else found <= aim.bound


def quotient(one: float | None, other: float | None) -> float | None:
    """Return one divided by the other, if both are there."""
    return one / other if one is not None and other else None


def digits(value: float) -> str:
    """Return a number with three digits that mean something."""
    if value >= 100:  # noqa: PLR2004 -- three digits
        return f"{value:.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"  # noqa: PLR2004


SCALES: Final = {
    "rate": (1, "{unit}/s"),
    "cpu": (1e3, "ms"),
    "memory": (1 / (1 << 20), "MB"),
    "each": (1 / (1 << 10), "KB"),
    "seconds": (1, "s"),
    "errors": (1, ""),
}
"""What a figure is multiplied by, and what it then counts; latencies are in ms."""


SHORT: Final = 0.01
"""Seconds of CPU below which a request's are shown in µs."""


def shown(figure: str, value: float | None, unit: str) -> str:
    """Return a figure with its unit."""
    if value is None:
        return ""
    scale, name = SCALES.get(figure, (1e3, "ms"))
    if figure == "cpu" and unit == Unit.REQUEST.value and value < SHORT:
        scale, name = 1e6, "µs"
    if figure == "errors":
        return f"{value:.0f}"
    return f"{digits(value * scale)} {name.format(unit=unit)}"


def aim_text(row: Row, aim: Aim, found: float | None) -> str:
    """Return an aim in words, and what there is of it."""
    what = FIGURES[aim.figure]
    least = "at least" if aim.at_least else "at most"
    if not aim.peer and not aim.row:
        has = shown(aim.figure, found, row.unit.value) or "not measured"
        return f"{what} {least} {shown(aim.figure, aim.bound, row.unit.value)}: {has}"
    to = f" of {aim.row}" if aim.row else ""
    has = f"{digits(found)}x" if found is not None else "not measured"
    return f"{what} {least} {digits(aim.bound)}x{to}: {has}"


def verdicts(results: Results) -> Iterator[tuple[Row, Aim, float | None, bool]]:
    """Yield each aim of each measured row, what there is of it, and whether it is reached."""
    for row in rows():
        if results.names(row.key):
            for aim in row.aims:
                yield row, aim, *results.reached(row, aim)


def console(document: Document) -> str:
    """Return the figures for a terminal."""
    results = Results(document)
    lines = [f"{name}: {fact}" for name, fact in document["facts"].items()]
    for row in rows():
        if not results.names(row.key):
            continue
        lines.append(f"\n{row.title} ({row.key})")
        lines += [f"  {name:<22} {of(results, row, name)}" for name in results.names(row.key)]
        for aim in row.aims:
            found, enough = results.reached(row, aim)
            lines.append(f"  {'reached' if enough else 'NOT REACHED'}: {aim_text(row, aim, found)}")
    return "\n".join(lines)


def of(results: Results, row: Row, name: str) -> str:
    """Return all figures of a contestant in a row."""
    found = []
    for figure, words in FIGURES.items():
        value = results.median(row.key, name, figure)
        if value is None or (figure == "errors" and not value):
            continue
        wide = spread_text(results, row, name, figure)
        found.append(f"{words} {shown(figure, value, row.unit.value)}{wide}")
    return ", ".join(found) or "not offered"


def spread_text(results: Results, row: Row, name: str, figure: str) -> str:
    """Return the spread in percent; nothing, if there was only one round."""
    if len(results.values(row.key, name, figure)) < 2 or figure == "errors":  # noqa: PLR2004
        return ""
    return f" ±{results.spread(row.key, name, figure) * 100:.0f} %"


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def cell(results: Results, row: Row, name: str, figure: str) -> str:
    """Return the median of a figure with its spread."""
    value = results.median(row.key, name, figure)
    if value is None:
        return "" if name not in results.names(row.key) else "none"
    text = shown(figure, value, row.unit.value)
    return text + spread_text(results, row, name, figure)


def comparison(results: Results, figure: str) -> list[str]:
    """Return the table of one figure: a column for each contestant, and the ratios to them."""
    names = results.contestants()
    peers = [name for name in (V3, V2, ZOT, NGINX) if name in names]
    body = []
    for row in rows():
        if results.median(row.key, OURS, figure) is None:
            continue
        ratios = [results.ratio(row.key, figure, peer) for peer in peers]
        cells = [cell(results, row, name, figure) for name in names]
        body.append(
            [row.title, *cells, *(f"{digits(r)}x" if r is not None else "" for r in ratios)]
        )
    return table(["Row", *names, *(f"to {peer}" for peer in peers)], body)


def latency(results: Results) -> list[str]:
    """Return the table of latencies."""
    names = results.contestants()
    body = [
        [row.title, *(waits(results, row, name) for name in names)]
        for row in rows()
        if results.median(row.key, OURS, "p50") is not None
    ]
    return table(["ms, p50 / p99 / p99.9", *names], body)


def waits(results: Results, row: Row, name: str) -> str:
    """Return the three latencies of a contestant in a row."""
    found = [results.median(row.key, name, figure) for figure in ("p50", "p99", "p999")]
    return " / ".join(digits(value * 1e3) for value in found if value is not None)


def aims(results: Results) -> list[str]:
    """Return the table of the aims."""
    body = [
        [row.title, aim_text(row, aim, found), "reached" if enough else "**not reached**"]
        for row, aim, found, enough in verdicts(results)
    ]
    return table(["Row", "Aim (x: the ratio to distribution 3.1.1): figure", ""], body)


def section(document: Document) -> str:
    """Return what stands between the markers of the page."""
    results = Results(document)
    rounds = document["rounds"]
    found = list(verdicts(results))
    lines = [BEGIN, ""]
    if rounds < WHOLE:
        lines += [TRIAL.format(rounds=rounds, seconds=document["seconds"]), ""]
    facts = [f"* {name}: {fact}" for name, fact in document["facts"].items()]
    lines += ["### The run", "", *facts]
    lines += [
        f"* rounds: {rounds}, of {document['seconds']:.0f} s a load; {document['minutes']} minutes"
    ]
    if ZOT not in document["facts"]:
        lines.append(f"* {ZOT}: left out, since it was not built")
    lines.append("")
    good = sum(enough for *_, enough in found)
    lines += ["### Aims", "", f"{good} of {len(found)} reached.", "", *aims(results), ""]
    for figure, title in TABLES.items():
        lines += [f"### {title}", "", *comparison(results, figure), ""]
    lines += ["### Latency", "", *latency(results), "", END]
    return "\n".join(lines)


TABLES: Final = {
    "rate": "Throughput",
    "cpu": "CPU of the whole server for a unit of work",
    "memory": "Most memory of the whole server",
    "each": "Memory for each connection",
    "seconds": "Time until the first 200",
}


def page(text: str, document: Document) -> str:
    """Return the page with the figures of a run between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{section(document)}{after}"


def main() -> None:
    """Write the page and the plots."""
    from benchmarks.plots import plots  # noqa: PLC0415

    document = json.loads(RESULTS.read_text())
    PAGE.write_text(page(PAGE.read_text(), document))
    for path, drawing in plots(document).items():
        path.write_text(drawing)


if __name__ == "__main__":
    main()
