"""From the file and the environment to settings, or to every reason why not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dockyard.config import choices, document, environment, legacy, reading
from dockyard.config.availability import unavailable
from dockyard.config.nodes import MappingNode, ScalarNode
from dockyard.config.problems import ConfigurationError, Finding, FindingKind, Problem
from dockyard.config.schema import schema
from dockyard.config.settings import Settings


PACKAGED_PATHS: Final = (
    Path("/etc/docker-distribution/registry/config.yml"),
    Path("/etc/docker/registry/config.yml"),
    Path("/etc/distribution/config.yml"),
)
"""Where the packages and images of docker-distribution put their configuration."""

DEFAULT_CONFIGURATION: Final = """\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  delete:
    enabled: true
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
"""
"""What is used when there is no file: the configuration of docker-distribution's RPM package,
with deletion allowed."""

_LARGEST_FILE: Final = 1 << 20
"""Bytes a configuration may have, 1 MiB: a thousand times a common one."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used.

    Attributes:
        settings: what it says.
        findings: what its operator should know about it.
        path: the file it came from, or `None` for the embedded default.
    """

    settings: Settings
    findings: tuple[Finding, ...]
    path: Path | None


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    candidates: Sequence[Path] = PACKAGED_PATHS,
    default: str = DEFAULT_CONFIGURATION,
) -> Loaded:
    """Return the configuration from `path`, overridden by `environ`.

    Without `path` it is the file that ``REGISTRY_CONFIGURATION_PATH`` names, else the first of
    `candidates` that exists, else `default`.

    Raises:
        ConfigurationError: it can't be used; it carries every reason that could be found.
    """
    named = environ.get(environment.PATH_VARIABLE)
    if path is None and named:
        path = Path(named)
    path, text = _read([path], None) if path is not None else _read(candidates, default)
    try:
        settings, findings = _settings(text, environ)
    except ConfigurationError as error:
        problems = [_located(problem, path) for problem in error.problems]
        raise ConfigurationError(problems, error.findings) from None
    return Loaded(settings, tuple(findings), path)


def _located(problem: Problem, path: Path | None) -> Problem:
    return problem if problem.variable else replace(problem, path=path)


def _read(paths: Sequence[Path], default: str | None) -> tuple[Path | None, str]:
    """Return the first of `paths` that exists with its text; `default` if none does."""
    for path in paths:
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            if default is None:
                raise _unreadable(path, error) from None
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None
        else:
            return path, _text(path, content)
    assert default is not None  # without one, the only path is there or an error
    return None, default


def _unreadable(path: Path, error: OSError | ValueError) -> ConfigurationError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ConfigurationError([Problem("", f"can't read the configuration: {reason}", path=path)])


def _text(path: Path, content: bytes) -> str:
    if len(content) > _LARGEST_FILE:
        message = f"more than {_LARGEST_FILE} bytes; is this the configuration?"
        raise ConfigurationError([Problem("", message, path=path)])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text, at byte {error.start + 1}"
        raise ConfigurationError([Problem("", message, path=path)]) from None


def _settings(text: str, environ: Mapping[str, str]) -> tuple[Settings, list[Finding]]:
    root, findings = _root(text)
    for name in ("storage", "auth"):
        if name in root.items:
            root.items[name] = choices.normalise(root.items[name])
    from_file = choices.kinds(root)
    odd, problems = environment.override(root, environ)
    findings += odd
    problems += choices.settle(root, from_file)
    choices.close(root)
    findings += reading.unknown(root, schema())
    findings += legacy.succeed(root)
    findings += legacy.ignored(root)
    problems += unavailable(root)
    settings = reading.settings_of(root)
    if not isinstance(settings, Settings):
        problems += settings
    if problems or not isinstance(settings, Settings):
        raise ConfigurationError(problems, findings)
    return settings, findings


def _root(text: str) -> tuple[MappingNode, list[Finding]]:
    """Return the mapping that the file is, once its version is known to be ours."""
    parsed = document.parse(text)
    root = parsed.root
    if root is not None and not isinstance(root, MappingNode):
        if not (isinstance(root, ScalarNode) and root.is_null):
            message = "must be a mapping of keys and values"
            raise ConfigurationError([Problem("", message, line=root.origin.line)])
        root = None
    version = root.items.get("version") if root is not None else None
    written = version.text if isinstance(version, ScalarNode) else ""
    if root is None or written != "0.1":
        line = version.origin.line if version is not None else None
        quoted = json.dumps(written[:80], ensure_ascii=False)
        message = f"unsupported version: {quoted}; the file must say version: 0.1"
        raise ConfigurationError([Problem("version", message, written, line)])
    if parsed.further is None:
        return root, []
    message = "a second YAML document begins here; only the first is read"
    return root, [Finding(FindingKind.IGNORED, "---", parsed.further, message)]
