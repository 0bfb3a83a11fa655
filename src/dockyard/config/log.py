"""Settings of the log."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from dockyard.config.scalars import Flag, Free, OptionalText, Secret, Text, VerbatimError, to_text
from dockyard.config.section import Section


LEVELS: Final = ("error", "warn", "info", "debug")
FORMATTERS: Final = ("text", "json", "logstash")


def _to_level(value: object) -> object:
    text = to_text(value)
    if not isinstance(text, str):
        return text
    if text.lower() not in LEVELS:
        allowed = ", ".join(LEVELS)
        raise VerbatimError(f"invalid loglevel {text.lower()} Must be one of [{allowed}]")
    return text.lower()


def _to_formatter(value: object) -> object:
    text = to_text(value)
    if text == "":
        return "text"
    if isinstance(text, str) and text not in FORMATTERS:
        allowed = ", ".join(FORMATTERS)
        raise VerbatimError(f'unsupported logging formatter: "{text}"; one of {allowed}')
    return text


Level: TypeAlias = Annotated[Literal["error", "warn", "info", "debug"], BeforeValidator(_to_level)]
Formatter: TypeAlias = Annotated[
    Literal["text", "json", "logstash"], BeforeValidator(_to_formatter)
]


class AccessLogSettings(Section):
    """Whether each request is logged in Apache's combined format."""

    disabled: Flag = False


class SMTPSettings(Section):
    """The server that takes the mail of a log hook."""

    addr: OptionalText = None
    username: OptionalText = None
    password: Secret = None
    insecure: Flag = False


class MailSettings(Section):
    """The mail that a log hook sends."""

    smtp: SMTPSettings = SMTPSettings()
    from_: OptionalText = Field(default=None, alias="from")
    to: tuple[Text, ...] = ()


class HookSettings(Section):
    """Something done for each log line of some levels."""

    type: OptionalText = None
    disabled: Flag = False
    levels: tuple[Text, ...] = ()
    options: MailSettings = MailSettings()


class LogSettings(Section):
    """What is logged, and how."""

    level: Level = "info"
    formatter: Formatter = "text"
    fields: Mapping[str, Free] = {}
    hooks: tuple[HookSettings, ...] = ()
    accesslog: AccessLogSettings = AccessLogSettings()
    reportcaller: Flag = False
