"""The documents are whole: links lead somewhere, examples work, translations match."""

import re
import shlex
from pathlib import Path
from typing import Final

import click
import pytest

from dockyard.cli.main import registry
from dockyard.config import load
from tests.docs.markdown import ROOT, Block, Page, pages


DEPLOY: Final = ROOT / "deploy"
MAKE: Final = re.compile(r"(?:^|`)make ([a-z][a-z-]*)(?=`|$)", re.MULTILINE)
MACHINE: Final = re.compile(r"(?<![\w.])/(?:work|tmp|home|root)/")
PACKAGE_ROW: Final = re.compile(r"^([a-z0-9_.-]+)==([^ ;\\]+)", re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("path", pages(), ids=name)


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def shell_lines(page: Page) -> list[list[str]]:
    return [
        shlex.split(line, comments=True)
        for block in page.blocks
        if block.language == "sh"
        for line in block.text.splitlines()
        if line
    ]


def configurations() -> list[tuple[str, str]]:
    """Return every whole configuration in the documents, and those in `deploy`."""
    found = [
        (f"{name(path)}-{position}", block.text)
        for path in pages()
        for position, block in enumerate(Page(path).blocks)
        if block.language == "yaml" and block.text.startswith("version: 0.1")
    ]
    files = [DEPLOY / "config.yml", DEPLOY / "serve.yml"]
    return found + [(name(path), path.read_text(encoding="utf-8")) for path in files]


@every_page
def test_links_lead_somewhere(path: Path) -> None:
    for link in Page(path).links:
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in {heading.anchor for heading in Page(target).headings}, link


@every_page
def test_make_knows_every_target(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(MAKE.findall(text)) <= targets()


@every_page
def test_every_command_of_an_example_parses(path: Path) -> None:
    context = click.Context(registry, info_name="registry")
    for words in shell_lines(Page(path)):
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        if not words or words[0] not in {"registry", "dockyard"}:
            continue
        command = registry.get_command(context, words[1])
        assert command is not None, words
        rest = words[2:]
        while isinstance(command, click.Group):
            command = command.commands[rest.pop(0)]
        command.make_context(command.name, rest)


@every_page
def test_nothing_points_at_the_machine_it_was_written_on(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert MACHINE.findall(text) == []


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=identifier) for identifier, text in configurations()]
)
def test_every_configuration_can_be_used(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(text, encoding="utf-8")
    loaded = load(file, {})
    # The old name in the walkthrough's own configuration is its charm, and the only one allowed.
    assert {finding.key for finding in loaded.findings} <= {"storage.cache.layerinfo"}


class TestTranslation:
    english = Page(ROOT / "README.md")
    chinese = Page(ROOT / "README.zh-CN.md")

    def test_headings_have_the_same_structure(self) -> None:
        levels = [heading.level for heading in self.english.headings]
        assert [heading.level for heading in self.chinese.headings] == levels

    def test_blocks_of_code_are_the_same(self) -> None:
        assert self.chinese.blocks == self.english.blocks

    def test_tables_have_the_same_rows(self) -> None:
        sizes = [len(table.rows) for table in self.english.tables]
        assert [len(table.rows) for table in self.chinese.tables] == sizes

    def test_figures_are_the_same(self) -> None:
        def figures(page: Page) -> list[list[str]]:
            rows = (row.values() for table in page.tables for row in table.rows)
            return [re.findall(r"\d+", " ".join(list(cells)[1:])) for cells in rows]

        assert figures(self.chinese) == figures(self.english)

    def test_links_are_the_same(self) -> None:
        def places(page: Page) -> list[str]:
            return [link for link in page.links if not link.startswith(("#", "README"))]

        assert places(self.chinese) == places(self.english)


class TestReadme:
    page = Page(ROOT / "README.md")

    def test_it_begins_with_the_two_commands(self) -> None:
        first = [block for block in self.page.blocks if block.language == "sh"][:3]
        assert first[0] == Block("sh", "make serve\n")
        assert first[2] == Block("sh", "make test\n")

    def test_the_columns_of_the_comparison_are_filled(self) -> None:
        for row in self.page.table("Compared with docker-distribution and zot").rows:
            assert row["Dockyard"], row
            assert row["zot"], row


def test_every_dependency_has_a_reason_and_its_version() -> None:
    """Decision 0002 names each package of pyproject.toml with the version that is locked."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    asked = set(re.findall(r'^ +"([a-z0-9-]+)[><=]', project, re.MULTILINE))
    asked |= {"editables", "hatchling"}
    locked = dict(PACKAGE_ROW.findall((ROOT / "requirements-dev.lock").read_text(encoding="utf-8")))
    page = Page(ROOT / "docs" / "decisions" / "0002-dependencies.md")
    rows = [*page.table("Choice: what runs").rows]
    rows += page.table("Choice: what builds, tests and checks").rows
    documented = {row["Package"].strip("`"): row["Locked"] for row in rows}
    assert documented == {package: locked[package] for package in asked}
    assert all(row["Why"] for row in rows)
