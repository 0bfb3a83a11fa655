"""Settings of the pull-through cache."""

from datetime import timedelta

from dockyard.config.scalars import Duration, OptionalText, Secret
from dockyard.config.section import Section


class ExecSettings(Section):
    """A credential helper to run."""

    command: OptionalText = None
    lifetime: Duration | None = None


class ProxySettings(Section):
    """The registry that this one is a cache of."""

    remoteurl: OptionalText = None
    username: OptionalText = None
    password: Secret = None
    exec: ExecSettings = ExecSettings()
    ttl: Duration = timedelta(hours=168)
    cachewritetimeout: Duration = timedelta(minutes=5)
