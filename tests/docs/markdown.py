"""Reads the project's documents: headings, tables, blocks of code and links."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final


ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = ROOT / "docs" / "reference"

_FENCE: Final = re.compile(r"^```(?P<language>[a-z]*)$")
_HEADING: Final = re.compile(r"^(?P<marks>#{1,6}) (?P<text>.+)$")
_LINK: Final = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE: Final = re.compile(r"`([^`]+)`")
_CELL_END: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    text: str

    @property
    def anchor(self) -> str:
        """What a link to the heading is called, where the documents are shown."""
        kept = re.sub(r"[^\w\- ]", "", self.text.lower())
        return kept.replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the heading it stands under, and its rows by column."""

    heading: str
    rows: Sequence[Mapping[str, str]]


class Page:
    """One document."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prose: list[str] = []
        self.blocks: list[Block] = []
        lines = iter(path.read_text(encoding="utf-8").splitlines())
        for line in lines:
            fence = _FENCE.match(line)
            if fence is None:
                self.prose.append(line)
                continue
            inside = list(iter(lambda: next(lines), "```"))
            self.blocks.append(Block(fence["language"], "\n".join(inside) + "\n"))

    @property
    def headings(self) -> list[Heading]:
        found = (_HEADING.match(line) for line in self.prose)
        return [Heading(len(match["marks"]), match["text"]) for match in found if match]

    @property
    def links(self) -> list[str]:
        return [match["target"] for line in self.prose for match in _LINK.finditer(line)]

    @property
    def tables(self) -> list[Table]:
        return list(self._tables())

    def table(self, heading: str, position: int = 0) -> Table:
        """Return the table at `position` of those directly under `heading`."""
        return [table for table in self.tables if table.heading == heading][position]

    def _tables(self) -> Iterator[Table]:
        heading, columns, rows = "", list[str](), list[Mapping[str, str]]()
        for line in [*self.prose, ""]:
            if line.startswith("|"):
                cells = [cell.strip() for cell in _CELL_END.split(line)[1:-1]]
                if not columns:
                    columns = cells
                elif not set("".join(cells)) <= set("-: "):
                    assert len(cells) == len(columns), f"{self.path}: {line}"
                    rows.append(dict(zip(columns, cells, strict=True)))
                continue
            if columns:
                yield Table(heading, rows)
                columns, rows = [], []
            if match := _HEADING.match(line):
                heading = match["text"]


def pages() -> list[Path]:
    """Return every document of the project."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def reference(name: str) -> Page:
    """Return a page of the reference."""
    return Page(REFERENCE / f"{name}.md")


def codes(cell: str) -> list[str]:
    """Return what a cell has in backquotes."""
    return _CODE.findall(cell)


def code(cell: str) -> str:
    """Return the one text that a cell has in backquotes."""
    (only,) = codes(cell)
    return only
