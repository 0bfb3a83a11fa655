"""Settings of the notifications, and of the middleware that distribution loads."""

from collections.abc import Mapping
from datetime import timedelta

from dockyard.config.http import FieldName
from dockyard.config.scalars import Count, Duration, Flag, Free, SecretText, Text
from dockyard.config.section import Section


class EventsSettings(Section):
    """What an event tells."""

    includereferences: Flag = False


class IgnoreSettings(Section):
    """Events that an endpoint does not get."""

    mediatypes: tuple[Text, ...] = ()
    actions: tuple[Text, ...] = ()


class EndpointSettings(Section):
    """A URL that is told of events."""

    name: Text = ""
    disabled: Flag = False
    url: Text = ""
    headers: Mapping[FieldName, tuple[SecretText, ...]] = {}
    timeout: Duration = timedelta(seconds=1)
    threshold: Count = 10
    backoff: Duration = timedelta(seconds=1)
    ignoredmediatypes: tuple[Text, ...] = ()
    ignore: IgnoreSettings = IgnoreSettings()


class NotificationsSettings(Section):
    """Who is told of pushes, pulls and deletions."""

    events: EventsSettings = EventsSettings()
    endpoints: tuple[EndpointSettings, ...] = ()


class MiddlewareSettings(Section):
    """One piece of middleware."""

    name: Text = ""
    disabled: Flag = False
    options: Mapping[str, Free] = {}


class MiddlewaresSettings(Section):
    """Middleware by the place it works in."""

    registry: tuple[MiddlewareSettings, ...] = ()
    repository: tuple[MiddlewareSettings, ...] = ()
    storage: tuple[MiddlewareSettings, ...] = ()
