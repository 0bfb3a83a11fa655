"""Each page of the reference has what the code has: all of it, and nothing else."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Final

import click
import pytest

from dockyard.cli.main import registry
from dockyard.errors import RegistryError
from dockyard.http.failures import FAILURES, MESSAGES
from dockyard.http.routes import ROUTES, TOKEN_ROUTES
from dockyard.oci.digest import Digest
from dockyard.server.limits import ConnectionLimits, HTTP2Limits
from dockyard.server.metrics import HANDLERS, Metrics
from dockyard.storage import layout
from tests.docs.markdown import code, codes, reference
from tests.docs.source import log_messages, modules, numbers, refusals, texts


ASGI: Final = frozenset({"http.disconnect", "http.response.body", "http.response.start"})
"""Messages of ASGI, which are spelled as the fields of a line are."""

UNITS: Final = {
    "": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "s": 1,
    "min": 60,
    "h": 3600,
}


def value_of(cell: str) -> float:
    """Return the number that a cell such as ``256 KiB`` or ``100 000`` means."""
    match = re.fullmatch(r"(\d+(?: \d{3})*(?:\.\d+)?)(?: ([A-Za-z]+))?", cell)
    assert match is not None, cell
    number = match[1].replace(" ", "")
    return (float(number) if "." in number else int(number)) * UNITS[match[2] or ""]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name."""
    context = click.Context(registry, info_name="registry")
    yield "registry", registry
    for name in registry.list_commands(context):
        command = registry.get_command(context, name)
        assert command is not None
        yield f"registry {name}", command
        if isinstance(command, click.Group):
            for below, each in sorted(command.commands.items()):
                yield f"registry {name} {below}", each


def spellings(parameter: click.Parameter) -> frozenset[str]:
    """Return the ways a parameter is written on the command line."""
    if isinstance(parameter, click.Argument):
        return frozenset({(parameter.name or "").upper()})
    return frozenset(parameter.opts)


def subclasses(cls: type[RegistryError]) -> Iterator[type[RegistryError]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def failures() -> set[str]:
    """Return the names of all failures, wherever they are declared."""
    for module in modules():
        import_module(f"dockyard.{module}")
    return {"RegistryError", *(cls.__name__ for cls in subclasses(RegistryError))}


def path_of(function: Callable[..., str]) -> str:
    """Return what a function of the layout returns, its arguments left as placeholders."""
    placeholders = {
        "name": "<name>",
        "tag": "<tag>",
        "identifier": "<upload>",
        "algorithm": "<algorithm>",
        "entry": "<name>",
        "item": "<item>",
        "path": "<path>",
        "digest": Digest("<algorithm>", "##hex##"),
    }
    arguments = [placeholders[name] for name in inspect.signature(function).parameters]
    return function(*arguments).replace("/##/", "/<xx>/").replace("##hex##", "<hex>")


def layout_paths() -> set[str]:
    functions = (item for _, item in inspect.getmembers(layout, inspect.isfunction))
    paths = {path_of(item) for item in functions if item.__module__ == layout.__name__}
    return {path for path in paths if path.startswith(layout.BASE)}


class TestRoutes:
    def test_the_table_is_the_route_table(self) -> None:
        table = reference("routes").table("The table")
        documented = [
            (row["Endpoint"], row["Method"], code(row["Path"]), row["Access"]) for row in table.rows
        ]
        assert documented == [
            (route.endpoint, route.method, route.path, route.needs.value)
            for route in (*ROUTES, *TOKEN_ROUTES)
        ]

    def test_every_endpoint_has_a_section(self) -> None:
        sections = {heading.text.split(":")[0] for heading in reference("routes").headings}
        assert {route.endpoint for route in (*ROUTES, *TOKEN_ROUTES)} <= sections


class TestErrors:
    def test_every_code_has_its_message(self) -> None:
        table = reference("errors").table("Codes")
        assert {code(row["Code"]): row["Message"] for row in table.rows} == dict(MESSAGES)

    def test_every_failure_has_its_status_and_code(self) -> None:
        table = reference("errors").table("Failures")
        documented = {
            code(row["Failure"]): (int(row["Status"]), code(row["Code"]), row["Message"] == "own")
            for row in table.rows
        }
        assert documented == {
            cls.__name__: (int(failure.status), failure.code, failure.says_why)
            for cls, failure in FAILURES.items()
        }

    def test_every_failure_says_when_and_what_to_do(self) -> None:
        for row in reference("errors").table("Failures").rows:
            assert row["When"], row
            assert row["Remedy"], row

    def test_every_class_of_failure_is_named(self) -> None:
        page = reference("errors")
        rows = [*page.table("Failures").rows, *page.table("Inside only").rows]
        assert sorted(code(row["Failure"]) for row in rows) == sorted(failures())

    def test_every_refusal_has_its_status(self) -> None:
        table = reference("errors").table("Refused before the API")
        documented = {HTTPStatus(int(row["Status"])).name for row in table.rows}
        assert documented == refusals()


class TestCommands:
    @pytest.mark.parametrize(
        ("name", "command"), [pytest.param(*item, id=item[0]) for item in commands()]
    )
    def test_every_parameter_has_a_row(self, name: str, command: click.Command) -> None:
        table = reference("commands").table(f"`{name}`")
        documented = [frozenset(codes(row["Parameter"])) for row in table.rows]
        assert documented == [spellings(parameter) for parameter in command.params]

    def test_every_section_is_a_command(self) -> None:
        headings = (heading.text for heading in reference("commands").headings)
        documented = [codes(text)[0] for text in headings if text.startswith("`")]
        assert sorted(documented) == sorted(name for name, _ in commands())


class TestFiles:
    def test_every_path_of_the_layout_has_a_row(self) -> None:
        page = reference("files")
        rows = [
            *page.table("distribution's tree", 0).rows,
            *page.table("distribution's tree", 1).rows,
        ]
        assert sorted(code(row["Path"]) for row in rows) == sorted(layout_paths())


class TestLimits:
    @pytest.mark.parametrize(
        ("title", "limits"),
        [("Of a connection", ConnectionLimits()), ("Of HTTP/2", HTTP2Limits())],
        ids=["connection", "http2"],
    )
    def test_every_limit_of_a_connection_has_a_row(
        self, title: str, limits: ConnectionLimits | HTTP2Limits
    ) -> None:
        table = reference("limits").table(title)
        documented = {code(row["Field"]): value_of(row["Value"]) for row in table.rows}
        assert documented == {
            field.name: float(getattr(limits, field.name)) for field in fields(limits)
        }

    def test_every_constant_has_a_row(self) -> None:
        page = reference("limits")
        rows = [*page.table("Constants").rows, *page.table("Other numbers").rows]
        documented = {code(row["Constant"]): value_of(row["Value"]) for row in rows}
        assert documented == dict(numbers())

    def test_every_limit_has_a_reason(self) -> None:
        page = reference("limits")
        tables = [page.table(title) for title in ("Of a connection", "Of HTTP/2", "Constants")]
        for row in [row for table in tables for row in table.rows]:
            assert row["What it bounds"], row
            assert row["Why so much"], row


class TestMetrics:
    def test_every_metric_has_a_row(self) -> None:
        metrics = Metrics(workers=1)
        scope = {"path": "/v2/", "method": "GET"}
        counter = metrics.counter(0)
        counter.began(scope)
        counter.completed(scope, 200, 2, 1000)
        rendered = metrics.render()
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", rendered, re.MULTILINE))
        labels: dict[str, set[str]] = {name: set() for name in kinds}
        for name, pairs in re.findall(r"^(\w+?)(?:_bucket)?\{(.+)\}", rendered, re.MULTILINE):
            if name in labels:
                labels[name] |= {pair.split("=")[0] for pair in pairs.split(",")} - {"le"}
        table = reference("debug").table("Metrics")
        documented = {
            code(row["Metric"]): (row["Kind"], set(codes(row["Labels"]))) for row in table.rows
        }
        assert documented == {name: (kind, labels[name]) for name, kind in kinds.items()}

    def test_every_handler_is_named(self) -> None:
        (sentence,) = (line for line in reference("debug").prose if line.startswith("`handler` is"))
        assert codes(sentence)[1:] == list(HANDLERS)


class TestLogs:
    def test_every_field_of_a_request_has_a_row(self) -> None:
        table = reference("logs").table("Of a request")
        form = re.compile(r"(?:auth|err|http|vars)\.[a-z.]+")
        found = {*texts("http.request_log"), *texts("http.request_lines")}
        logged = {text for text in found if form.fullmatch(text)}
        assert {code(row["Field"]) for row in table.rows} == logged - ASGI

    def test_every_message_has_a_row(self) -> None:
        table = reference("logs").table("Messages")
        assert {code(row["Message"]) for row in table.rows} == log_messages()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("256 KiB", 262144), ("10 000", 10_000), ("0.05 s", 0.05), ("1 h", 3600), ("78", 78)],
)
def test_values_are_read_as_they_are_meant(cell: str, expected: float) -> None:
    assert value_of(cell) == expected


def test_every_page_is_in_the_index() -> None:
    root = Path(reference("routes").path).parents[1]
    index = (root / "README.md").read_text(encoding="utf-8")
    decisions = (root / "decisions" / "README.md").read_text(encoding="utf-8")
    for path in sorted(root.rglob("*.md")):
        if path.name == "README.md":
            continue
        if path.parent.name == "decisions":
            assert f"({path.name})" in decisions
        else:
            assert f"({path.relative_to(root)})" in index
