"""The configuration file and environment, typed.

`load` gives `Settings`, or a `ConfigurationError` with every reason why it can't. Whoever holds
settings never checks them again. The names and the rules are those of docker-distribution.
"""

from dockyard.config.effective import render_effective
from dockyard.config.loading import DEFAULT_CONFIGURATION, PACKAGED_PATHS, Loaded, load
from dockyard.config.problems import ConfigurationError, Finding, FindingKind, Problem
from dockyard.config.settings import Settings
from dockyard.config.storage import (
    FilesystemSettings,
    InMemorySettings,
    StorageDriver,
    StorageSettings,
)


__all__ = [
    "DEFAULT_CONFIGURATION",
    "PACKAGED_PATHS",
    "ConfigurationError",
    "FilesystemSettings",
    "Finding",
    "FindingKind",
    "InMemorySettings",
    "Loaded",
    "Problem",
    "Settings",
    "StorageDriver",
    "StorageSettings",
    "load",
    "render_effective",
]
