"""The configuration as a whole. An attribute's path is the key's path in the file."""

from typing import Self

from pydantic import model_validator

from dockyard.config.access import AccessSettings
from dockyard.config.audit import AuditSettings
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
    access: AccessSettings | None = None
    audit: AuditSettings = AuditSettings()
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

    @model_validator(mode="after")
    def _one_authority(self) -> Self:
        if self.access is not None and (self.auth.token or self.auth.silly):
            raise ValueError(
                "access has rules for users of auth.htpasswd; with auth.token the token's issuer "
                "decides, with auth.silly nobody does: remove one of the two"
            )
        if self.access is not None and self.access.certificates and not self.http.tls.clientcas:
            raise ValueError(
                "access.certificates needs http.tls.clientcas: without it nobody says whose "
                "certificates are to be believed"
            )
        return self
