"""`docs/reference/configuration.md` has every key of the schema, and no other."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from dockyard.config.schema import VARIABLES, keys


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
ROW = re.compile(r"^\| `(?P<key>[^`]+)` \| (?P<rest>.+) \|$", re.MULTILINE)


class Row(NamedTuple):
    key: str
    type: str
    default: str
    variable: str
    meaning: str


def rows() -> list[Row]:
    found = [
        Row(match["key"], *match["rest"].split(" | ")) for match in ROW.finditer(PAGE.read_text())
    ]
    assert found
    return found


def known() -> set[str]:
    """Return the keys of the schema; `s3aws` is said to have those of `s3`."""
    return {key.replace("storage.s3aws.", "storage.s3.") for key in keys()}


def variable(key: str) -> str:
    """Return the name that distribution gives the variable of a key."""
    names, path = ["REGISTRY"], ""
    for part in key.split("."):
        path = f"{path}.{part}" if path else part
        name = part.replace("[]", "")
        names.append(
            "NAME" if name == "*" else VARIABLES.get(path.removesuffix("[]"), name.upper())
        )
        names.extend(["0"] * part.count("[]"))
    return "_".join(names)


def test_every_key_has_a_row() -> None:
    assert known() - {row.key for row in rows()} == set()


def test_every_row_has_a_key() -> None:
    assert {row.key for row in rows()} - known() == set()


def test_no_key_has_two_rows() -> None:
    assert len({row.key for row in rows()}) == len(rows())


def test_the_page_says_that_s3aws_has_the_keys_of_s3() -> None:
    assert "`s3aws` is another name for `s3`" in PAGE.read_text()


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.key)
def test_the_variable_is_the_keys(row: Row) -> None:
    settable = row.key != "version" and "_" not in row.key
    assert row.variable == (f"`{variable(row.key)}`" if settable else "—")
    assert row.type
    assert row.meaning.endswith(".")
