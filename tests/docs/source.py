"""Reads the project's sources, for what can't be asked of the running program."""

import ast
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Final

from tests.docs.markdown import ROOT


SOURCES: Final = ROOT / "src" / "dockyard"
LOG_METHODS: Final = frozenset({"debug", "info", "warning", "error", "critical", "exception"})


def modules() -> list[str]:
    """Return the names of the package's modules, below the package."""
    paths = sorted(SOURCES.rglob("*.py"))
    names = (".".join(path.relative_to(SOURCES).with_suffix("").parts) for path in paths)
    return [name for name in names if not name.endswith(("__init__", "__main__"))]


def tree(module: str) -> ast.Module:
    """Return the syntax tree of a module."""
    path = SOURCES / Path(*module.split(".")).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def numbers() -> Iterator[tuple[str, float]]:
    """Yield each public constant that is a number or a time, which counts in seconds."""
    for module in modules():
        for node in tree(module).body:
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)])
                    | ast.AnnAssign(target=ast.Name(id=name))
                ) if name.isupper() and not name.startswith("_"):
                    value = getattr(import_module(f"dockyard.{module}"), name)
                    if isinstance(value, timedelta):
                        yield f"{module}.{name}", value.total_seconds()
                    elif isinstance(value, int | float):
                        yield f"{module}.{name}", float(value)
                case _:
                    pass


def calls(module: str) -> Iterator[ast.Call]:
    """Yield every call in a module."""
    return (node for node in ast.walk(tree(module)) if isinstance(node, ast.Call))


def refusals() -> set[str]:
    """Return the names of the statuses with which the server refuses what is no request."""
    return {
        call.args[0].attr
        for module in modules()
        if module.startswith("server.")
        for call in calls(module)
        if isinstance(call.func, ast.Name) and call.func.id == "RefusedError"
        if isinstance(call.args[0], ast.Attribute)
    }


def texts(module: str) -> set[str]:
    """Return every text in a module."""
    return {
        node.value
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def log_messages() -> set[str]:
    """Return what the program says in its log, ``…`` where a value stands in the sentence."""
    found: set[str] = set()
    for module in modules():
        for node in ast.walk(tree(module)):
            match node:
                case ast.Call(func=ast.Attribute() as function, args=arguments) if _logs(function):
                    said = arguments[:2]  # the second is the message of ``log.log(level, ...)``
                case ast.Assign(
                    targets=[ast.Subscript(slice=ast.Constant(value="event"))], value=message
                ):
                    said = [message]
                case _:
                    continue
            found |= {text for each in said for text in _sentences(each) if text}
    return found


def _logs(function: ast.Attribute) -> bool:
    """Return whether a method is one of a logger, such as ``logger().info`` or ``log.log``."""
    return function.attr in LOG_METHODS | {"log"} and "log" in ast.unparse(function.value).lower()


def _sentences(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=otherwise):
            yield from _sentences(body)
            yield from _sentences(otherwise)
        case ast.JoinedStr(values=parts):
            yield "".join(
                part.value
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
                else "…"
                for part in parts
            )
        case _:
            return
