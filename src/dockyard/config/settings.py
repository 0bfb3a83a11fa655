"""The configuration as a whole. An attribute's path is the key's path in the file."""

from dockyard.config.auth import AuthSettings
from dockyard.config.content import (
    CatalogSettings,
    PolicySettings,
    TagsSettings,
    ValidationSettings,
)
from dockyard.config.health import HealthSettings
from dockyard.config.http import HTTPSettings
from dockyard.config.log import LogSettings
from dockyard.config.notifications import MiddlewaresSettings, NotificationsSettings
from dockyard.config.obsolete import CompatibilitySettings, ReportingSettings
from dockyard.config.proxy import ProxySettings
from dockyard.config.redis import RedisSettings
from dockyard.config.scalars import Text
from dockyard.config.section import Section
from dockyard.config.storage import StorageSettings


class Settings(Section):
    """Everything that can be configured."""

    version: Text = "0.1"
    log: LogSettings = LogSettings()
    storage: StorageSettings
    auth: AuthSettings = AuthSettings()
    middleware: MiddlewaresSettings = MiddlewaresSettings()
    http: HTTPSettings = HTTPSettings()
    notifications: NotificationsSettings = NotificationsSettings()
    redis: RedisSettings = RedisSettings()
    health: HealthSettings = HealthSettings()
    proxy: ProxySettings = ProxySettings()
    catalog: CatalogSettings = CatalogSettings()
    tags: TagsSettings = TagsSettings()
    validation: ValidationSettings = ValidationSettings()
    policy: PolicySettings = PolicySettings()
    reporting: ReportingSettings = ReportingSettings()
    compatibility: CompatibilitySettings = CompatibilitySettings()
