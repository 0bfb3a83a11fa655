"""The whole application in this process: built from a configuration, asked without a socket."""

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import structlog
import yaml
from structlog.testing import ReturnLoggerFactory

from dockyard.config import load
from dockyard.http.request_log import RequestLog
from dockyard.server.build import build_app


BASE: Final = "http://registry.example"


def write_config(folder: Path, **sections: object) -> Path:
    """Write a configuration with its root in `folder` and deletion on; return its path."""
    document = {
        "version": 0.1,
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "root")},
            "delete": {"enabled": True},
        },
        **sections,
    }
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(document))
    return path


def application(folder: Path, **sections: object) -> RequestLog:
    """Return the application that a worker serves, with its root in `folder`."""
    settings = load(write_config(folder, **sections), {}).settings
    return RequestLog(build_app(settings))


@contextmanager
def recorded_log() -> Iterator[list[dict[str, Any]]]:
    """Collect what is logged by applications made within the context: a list of fields by name."""
    entries: list[dict[str, Any]] = []

    def collect(_logger: object, method: str, fields: MutableMapping[str, Any]) -> str:
        entries.append({**fields, "method": method})
        return ""

    before = structlog.get_config()
    structlog.configure(
        processors=[collect],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield entries
    finally:
        structlog.configure(**before)


def client_of(served: RequestLog) -> httpx.AsyncClient:
    """Return a client of `served`; what the application raises is raised in the test."""
    transport = httpx.ASGITransport(served)
    return httpx.AsyncClient(transport=transport, base_url=BASE)
