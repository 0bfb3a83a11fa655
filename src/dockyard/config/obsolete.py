"""Settings that docker-distribution 2.x had and that have no effect any more."""

from dockyard.config.scalars import Flag, OptionalText, Secret
from dockyard.config.section import Section


class BugsnagSettings(Section):
    """Reports to Bugsnag."""

    apikey: Secret = None
    releasestage: OptionalText = None
    endpoint: OptionalText = None


class NewRelicSettings(Section):
    """Reports to New Relic."""

    licensekey: Secret = None
    name: OptionalText = None
    verbose: Flag = False


class ReportingSettings(Section):
    """Reports of errors."""

    bugsnag: BugsnagSettings = BugsnagSettings()
    newrelic: NewRelicSettings = NewRelicSettings()


class Schema1Settings(Section):
    """Manifests of schema 1."""

    signingkeyfile: OptionalText = None
    enabled: Flag = False


class CompatibilitySettings(Section):
    """What was kept for old clients."""

    schema1: Schema1Settings = Schema1Settings()
