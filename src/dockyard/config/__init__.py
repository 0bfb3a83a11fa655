"""The configuration file and environment, typed."""

from dockyard.config.settings import Settings
from dockyard.config.storage import (
    FilesystemSettings,
    InMemorySettings,
    StorageDriver,
    StorageSettings,
)


__all__ = [
    "FilesystemSettings",
    "InMemorySettings",
    "Settings",
    "StorageDriver",
    "StorageSettings",
]
