"""Commands whose exit status is an answer: 0 is yes, 1 is no, 2 is that there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from typing_extensions import override


UNANSWERED: Final = 2
"""The exit status of a question that has no answer: a script must not take that for a no."""


class Question(click.Command):
    """A command that is a question. A mistake in it ends with `UNANSWERED`, not with 1."""

    @override
    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with _unanswered():
            return super().make_context(info_name, args, parent, **extra)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        with _unanswered():
            return super().invoke(ctx)


@contextmanager
def _unanswered() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.show()
        raise click.exceptions.Exit(UNANSWERED) from error
