import pytest

from dockyard.config import FindingKind
from dockyard.config.legacy import IGNORED, SUCCESSORS
from dockyard.config.schema import LEGACY, keys
from tests.unit.config.configurations import loaded, problems_with, with_key


def test_every_old_name_has_a_successor() -> None:
    assert tuple(SUCCESSORS) == LEGACY
    known = {key.removesuffix("[]") for key in keys()}
    assert {successor.key for successor in SUCCESSORS.values()} <= known


def test_ignored_keys_are_keys() -> None:
    for key in IGNORED:
        assert any(name == key or name.startswith(f"{key}.") for name in keys())


def test_values_under_old_names_are_used() -> None:
    found = with_key("""\
        loglevel: debug
        validation: {enabled: no}
        redis:
          addr: localhost:6379
          pool: {maxidle: 1, maxactive: 2, idletimeout: 3s}
        """)
    settings = found.settings
    assert settings.log.level == "debug"
    assert settings.validation.disabled
    assert settings.redis.addrs == ("localhost:6379",)
    assert (settings.redis.maxidleconns, settings.redis.poolsize) == (1, 2)
    assert settings.redis.connmaxidletime.total_seconds() == 3
    assert [str(finding) for finding in found.findings] == [
        "line 3: loglevel is the old name of log.level, whose value is used",
        "line 4: validation.enabled is the old name of validation.disabled, whose value is used",
        "line 6: redis.addr is the old name of redis.addrs, whose value is used",
        "line 7: redis.pool.maxidle is the old name of redis.maxidleconns, whose value is used",
        "line 7: redis.pool.maxactive is the old name of redis.poolsize, whose value is used",
        (
            "line 7: redis.pool.idletimeout is the old name of redis.connmaxidletime, "
            "whose value is used"
        ),
        "line 5: redis has no effect (nothing is kept in Redis)",
    ]


def test_layerinfo_is_the_blob_descriptor_cache() -> None:
    found = loaded("version: 0.1\nstorage: {inmemory: , cache: {layerinfo: inmemory}}\n")
    assert found.settings.storage.cache.blobdescriptor == "inmemory"
    assert [finding.kind for finding in found.findings] == [FindingKind.LEGACY]


def test_the_new_name_wins() -> None:
    found = with_key(
        "loglevel: debug\nlog: {level: warn}\nvalidation: {enabled: yes, disabled: yes}"
    )
    assert found.settings.log.level == "warn"
    assert found.settings.validation.disabled
    assert str(found.findings[0]) == (
        "line 3: loglevel is the old name of log.level, which is given too and wins"
    )


def test_enabled_validation_is_not_disabled() -> None:
    assert not with_key("validation: {enabled: yes}").settings.validation.disabled


def test_old_names_work_in_the_environment() -> None:
    found = with_key(
        "",
        REGISTRY_LOGLEVEL="error",
        REGISTRY_STORAGE_CACHE_LAYERINFO="inmemory",
        REGISTRY_REDIS_POOL_MAXIDLE="4",
    ).settings
    assert found.log.level == "error"
    assert found.storage.cache.blobdescriptor == "inmemory"
    assert found.redis.maxidleconns == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "loglevel: loud",
            "loglevel: invalid loglevel loud Must be one of [error, warn, info, debug]",
        ),
        ("validation: {enabled: maybe}", "validation.enabled: must be true or false, not 'maybe'"),
        ("validation: {enabled: [a]}", "validation.enabled: "),
        ("redis: {addr: [a]}", "redis.addr: must be text, not a list"),
        ("redis: {pool: {maxidle: x}}", "redis.pool.maxidle: must be a whole number, not 'x'"),
        ("loglevel: debug\nlog: 5", "log: must be a mapping of keys and values, not '5'"),
    ],
)
def test_a_wrong_value_is_told_under_the_name_it_was_written(text: str, problem: str) -> None:
    (found,) = problems_with(text)
    assert problem in found


@pytest.mark.parametrize(
    "text", ["loglevel:", "redis:", "redis: {pool: }", "validation: {enabled: }"]
)
def test_an_old_name_without_a_value_is_no_matter(text: str) -> None:
    assert [f.kind for f in with_key(text).findings if f.kind is FindingKind.LEGACY] == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("reporting: {bugsnag: {apikey: x}}", "reporting"),
        ("compatibility: {schema1: {enabled: true}}", "compatibility.schema1"),
        ("http: {secret: x}", "http.secret"),
        ("redis: {addrs: [a]}", "redis"),
    ],
)
def test_keys_without_effect_are_told_with_the_reason(text: str, key: str) -> None:
    (finding,) = with_key(text).findings
    assert finding.kind is FindingKind.IGNORED
    assert str(finding) == f"line 3: {key} has no effect ({IGNORED[key]})"


def test_keys_of_the_storage_without_effect_are_told() -> None:
    found = loaded(
        "version: 0.1\nstorage:\n  filesystem: {maxthreads: 5}\n  tag: {concurrencylimit: 8}\n"
        "  cache: {blobdescriptorsize: 9}\n"
    )
    assert [(finding.key, finding.line) for finding in found.findings] == [
        ("storage.filesystem.maxthreads", 3),
        ("storage.tag.concurrencylimit", 4),
        ("storage.cache.blobdescriptorsize", 5),
    ]
    assert found.settings.storage.filesystem is not None
    assert found.settings.storage.filesystem.maxthreads == 25


def test_wrong_values_of_keys_without_effect_are_told() -> None:
    assert problems_with("reporting: {newrelic: {verbose: maybe}}") == [
        "line 3: reporting.newrelic.verbose: must be true or false, not 'maybe'"
    ]
