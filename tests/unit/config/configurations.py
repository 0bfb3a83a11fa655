"""Short ways to load a configuration that is written in the test."""

from textwrap import dedent

from dockyard.config import ConfigurationError, Loaded, Problem, load


MINIMAL = "version: 0.1\nstorage: inmemory\n"


def loaded(text: str, **environ: str) -> Loaded:
    return load(None, environ, candidates=(), default=dedent(text))


def with_key(text: str, **environ: str) -> Loaded:
    """Return the smallest configuration with `text` added."""
    return loaded(MINIMAL + dedent(text), **environ)


def problems(text: str, **environ: str) -> tuple[Problem, ...]:
    try:
        loaded(text, **environ)
    except ConfigurationError as error:
        return error.problems
    return ()


def problems_with(text: str, **environ: str) -> list[str]:
    """Return what is wrong when `text` is added to the smallest configuration."""
    return [str(problem) for problem in problems(MINIMAL + dedent(text), **environ)]


def findings(text: str, **environ: str) -> list[str]:
    return [str(finding) for finding in loaded(text, **environ).findings]
