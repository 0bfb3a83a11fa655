"""Plots of the results, as SVG without any library, readable on light and on dark ground."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.contestants import NGINX, OURS, ROOT, V2, V3, ZOT
from benchmarks.report import Document, Results, shown
from benchmarks.rows import EVERYONE, Row, rows


FOLDER: Final = ROOT / "docs/explanation"
PLOTS: Final = {
    "throughput": ("rate", "Throughput, as a multiple of distribution 3.1.1's (more is better)"),
    "cpu": ("cpu", "CPU for the same work, as a multiple of distribution 3.1.1's (less is better)"),
    "latency": ("p99", "p99 latency, as a multiple of distribution 3.1.1's (less is better)"),
}
COLOURS: Final = {OURS: "#2a78b8", V2: "#b08030", V3: "#888888", ZOT: "#8a5ab0", NGINX: "#3a9a5a"}

STYLE: Final = (
    "text { font: 12px sans-serif; fill: #777 } .small { font-size: 10px } "
    ".title { font-weight: bold }"
)

WIDTH: Final = 900
LABEL: Final = 330
BAR: Final = 11
GAP: Final = 12
TOP: Final = 64
MOST: Final = 16.0
"""Ratio at which a bar ends at the edge; the scale is logarithmic, 1/16 to 16."""


def plots(document: Document) -> dict[Path, str]:
    """Return each plot by its path."""
    results = Results(document)
    return {
        FOLDER / f"performance-{name}.svg": plot(results, figure, title)
        for name, (figure, title) in PLOTS.items()
    }


def plot(results: Results, figure: str, title: str) -> str:
    """Return a plot: for each row a bar for each contestant, its ratio to distribution."""
    drawn: list[str] = []
    height = TOP
    for row in rows():
        ratios = of(results, row, figure)
        if len(ratios) > 1 and OURS in ratios:
            drawn += group(row, ratios, figure, height)
            height += BAR * len(ratios) + GAP
    return "\n".join(
        [*head(title, height, results.contestants()), *axis(height), *drawn, "</svg>", ""]
    )


def of(results: Results, row: Row, figure: str) -> Mapping[str, tuple[float, float]]:
    """Return each contestant's figure, and its ratio to distribution's."""
    base = results.median(row.key, V3, figure)
    found = {name: results.median(row.key, name, figure) for name in EVERYONE}
    return {name: (value, value / base) for name, value in found.items() if value and base}


def across(ratio: float) -> float:
    """Return how far from the left a ratio is drawn."""
    middle = (WIDTH + LABEL - 90) / 2
    bounded = max(1 / MOST, min(MOST, ratio))
    return middle + (middle - LABEL) * math.log2(bounded) / math.log2(MOST)


def group(
    row: Row, ratios: Mapping[str, tuple[float, float]], figure: str, top: int
) -> Sequence[str]:
    """Return the bars of a row."""
    middle = top + BAR * len(ratios) / 2 + 4
    lines = [
        f'<text x="{LABEL - 10}" y="{middle:.0f}" text-anchor="end">{escape(row.title)}</text>'
    ]
    for number, (name, (value, ratio)) in enumerate(ratios.items()):
        y = top + BAR * number
        start, end = sorted((across(1), across(ratio)))
        wide = max(2.0, end - start)
        lines.append(
            f'<rect x="{start:.1f}" y="{y}" width="{wide:.1f}" height="{BAR - 2}" '
            f'fill="{COLOURS[name]}"/>'
        )
        text = escape(shown(figure, value, row.unit.value))
        lines.append(f'<text x="{WIDTH - 85}" y="{y + 9}" class="small">{text}</text>')
    return lines


def head(title: str, height: int, names: Sequence[str]) -> Sequence[str]:
    """Return the beginning of a picture with its title and the meaning of the colours."""
    legend = []
    for number, name in enumerate(names):
        x = 20 + 175 * number
        legend.append(f'<rect x="{x}" y="34" width="10" height="10" fill="{COLOURS[name]}"/>')
        legend.append(f'<text x="{x + 16}" y="43">{escape(name)}</text>')
    size = f'viewBox="0 0 {WIDTH} {height + 20}" width="{WIDTH}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text x="20" y="20" class="title">{escape(title)}</text>',
        *legend,
    ]


def axis(height: int) -> Sequence[str]:
    """Return the lines of the scale."""
    lines = []
    for power in range(-4, 5, 2):
        ratio = 2.0**power
        x = across(ratio)
        name = f"{ratio:.0f}x" if power >= 0 else f"1/{1 / ratio:.0f}"
        lines.append(
            f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height}" stroke="#999" '
            f'stroke-opacity="{0.9 if power == 0 else 0.3}"/>'
        )
        lines.append(
            f'<text x="{x:.1f}" y="{height + 14}" text-anchor="middle" class="small">{name}</text>'
        )
    return lines
