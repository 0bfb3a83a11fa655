from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from dockyard.config import (
    FilesystemSettings,
    InMemorySettings,
    Settings,
    StorageSettings,
    render_effective,
)
from dockyard.config.content import CatalogSettings, PolicySettings, RepositoryPolicySettings
from dockyard.config.effective import _plain
from dockyard.config.http import HTTPSettings
from dockyard.config.log import LogSettings
from dockyard.config.storage import DeleteSettings, MaintenanceSettings, UploadPurgingSettings
from tests.unit.config.configurations import loaded, with_key


WORDS = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), min_size=1, max_size=12)
STORAGES = st.builds(
    StorageSettings,
    filesystem=st.builds(
        FilesystemSettings, rootdirectory=st.builds(Path, WORDS.map(lambda name: f"/{name}"))
    ),
    delete=st.builds(DeleteSettings, enabled=st.booleans()),
    maintenance=st.builds(
        MaintenanceSettings,
        uploadpurging=st.builds(
            UploadPurgingSettings,
            age=st.timedeltas(timedelta(), timedelta(days=1000)),
            dryrun=st.booleans(),
        ),
    ),
)
SETTINGS = st.builds(
    Settings,
    storage=STORAGES | st.just(StorageSettings(inmemory=InMemorySettings())),
    log=st.builds(
        LogSettings,
        level=st.sampled_from(["error", "warn", "info", "debug"]),
        fields=st.dictionaries(st.sampled_from(["service", "x"]), st.integers() | st.just("a b")),
    ),
    http=st.builds(
        HTTPSettings,
        addr=WORDS,
        workers=st.none() | st.integers(1, 64),
        draintimeout=st.timedeltas(timedelta(), timedelta(days=1)),
        headers=st.dictionaries(st.sampled_from(["X-A", "X-B"]), st.tuples(WORDS)),
    ),
    catalog=st.builds(CatalogSettings, maxentries=st.integers(1, 1 << 40)),
    policy=st.builds(
        PolicySettings,
        repository=st.builds(RepositoryPolicySettings, classes=st.lists(WORDS).map(tuple)),
    ),
)


@settings(deadline=None)  # the machine may be busy
@given(SETTINGS)
def test_what_is_rendered_loads_to_the_same(made: Settings) -> None:
    assert loaded(render_effective(made)).settings == made


def test_secrets_are_masked_wherever_they_are() -> None:
    found = with_key(
        """\
        http: {secret: hunter2}
        log:
          fields: {token: hunter2, place: 'http://user:hunter2@host/'}
          hooks: [{disabled: true, options: {smtp: {password: hunter2}, from: a@b}}]
        redis: {password: hunter2}
        middleware: {storage: [{disabled: true, options: {privatekey: hunter2}}]}
        notifications: {endpoints: [{disabled: true, headers: {Authorization: [hunter2]}}]}
        health: {http: [{uri: 'https://user:hunter2@host/', headers: {Authorization: [hunter2]}}]}
        proxy: {password: hunter2}
        reporting: {bugsnag: {apikey: hunter2}}
        """
    ).settings
    text = render_effective(found)
    assert "hunter2" not in text
    rendered = yaml.safe_load(text)
    assert rendered["http"]["secret"] == "********"
    assert rendered["health"]["http"][0]["uri"] == "https://********@host/"
    assert rendered["log"]["hooks"][0]["options"]["from"] == "a@b"


def test_sections_without_effect_are_left_out() -> None:
    text = render_effective(
        with_key("redis: {addrs: [a]}\nreporting: {newrelic: {name: x}}").settings
    )
    assert "redis" not in text
    assert "reporting" not in text


def test_durations_are_written_as_in_go() -> None:
    rendered = yaml.safe_load(render_effective(with_key("").settings))
    assert rendered["storage"] == {
        "inmemory": {},
        "cache": {"blobdescriptorsize": 10000},
        "delete": {"enabled": False},
        "maintenance": {
            "gc": {
                "enabled": False,
                "interval": "24h",
                "grace": "1h",
                "delay": "24h",
                "deleteuntagged": False,
                "keeppulled": "0s",
            },
            "trash": {"retention": "168h"},
            "uploadpurging": {"enabled": True, "age": "168h", "interval": "24h", "dryrun": False},
            "readonly": {"enabled": False},
        },
        "redirect": {"disable": False},
        "tag": {"concurrencylimit": 0},
    }


def test_a_type_that_no_setting_has_is_refused() -> None:
    with pytest.raises(TypeError, match="no setting has a bytes"):
        _plain(b"")
