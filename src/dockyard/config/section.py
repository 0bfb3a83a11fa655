"""What every part of the settings is: frozen, closed, and silent about its secrets."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of the configuration whose keys are known. Its attributes are its keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True
    )


class Choice(Section):
    """A mapping in which exactly one of several keys says what kind of thing is meant.

    The same may be written as plain text: that kind, without parameters.
    """

    COMMON: ClassVar[frozenset[str]] = frozenset()
    """Keys that stand beside the kind."""

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """Return the kinds there are."""
        return tuple(name for name in cls.model_fields if name not in cls.COMMON)
