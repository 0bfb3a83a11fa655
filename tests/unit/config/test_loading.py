import os
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from dockyard.config import (
    DEFAULT_CONFIGURATION,
    PACKAGED_PATHS,
    ConfigurationError,
    FilesystemSettings,
    FindingKind,
    InMemorySettings,
    Problem,
    Settings,
    StorageSettings,
    load,
)
from dockyard.config.objectstores import S3Settings
from tests.unit.config.configurations import (
    MINIMAL,
    findings,
    loaded,
    problems,
    problems_with,
    with_key,
)


WALKTHROUGH = """\
version: 0.1
log:
  fields:
    service: registry
storage:
    cache:
        layerinfo: inmemory
    filesystem:
        rootdirectory: /var/lib/registry
http:
    addr: :5000
"""


def write(path: Path, text: str = MINIMAL) -> Path:
    path.write_text(text)
    return path


class TestTheFile:
    def test_the_argument_goes_first(self, tmp_path: Path) -> None:
        argument, other = write(tmp_path / "a.yml"), write(tmp_path / "b.yml")
        environ = {"REGISTRY_CONFIGURATION_PATH": str(other)}
        assert load(argument, environ, candidates=[other]).path == argument

    def test_then_the_environment(self, tmp_path: Path) -> None:
        named, other = write(tmp_path / "a.yml"), write(tmp_path / "b.yml")
        environ = {"REGISTRY_CONFIGURATION_PATH": str(named)}
        loaded_ = load(None, environ, candidates=[other])
        assert loaded_.path == named
        assert loaded_.findings == ()

    def test_then_the_first_place_of_the_packages(self, tmp_path: Path) -> None:
        there = write(tmp_path / "b.yml")
        candidates = [tmp_path / "a.yml", there / "no-directory", there, write(tmp_path / "c.yml")]
        assert load(None, {"REGISTRY_CONFIGURATION_PATH": ""}, candidates=candidates).path == there

    def test_then_the_embedded_default(self) -> None:
        found = load(None, {}, candidates=())
        assert found.path is None
        assert found.findings == ()
        assert found.settings.storage.driver == FilesystemSettings(
            rootdirectory=Path("/var/lib/registry")
        )
        assert found.settings.storage.delete.enabled
        assert found.settings.http.addr == ":5000"

    def test_the_places_are_those_of_distributions_packages(self) -> None:
        assert [str(path) for path in PACKAGED_PATHS] == [
            "/etc/docker-distribution/registry/config.yml",
            "/etc/docker/registry/config.yml",
            "/etc/distribution/config.yml",
        ]

    @pytest.mark.parametrize("missing", ["none.yml", "file/config.yml"])
    def test_a_named_file_must_be_there(self, tmp_path: Path, missing: str) -> None:
        write(tmp_path / "file")
        path = tmp_path / missing
        with pytest.raises(ConfigurationError, match=f"^{path}: can't read the configuration: "):
            load(path, {})

    def test_a_directory_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="can't read the configuration: Is a direct"):
            load(None, {}, candidates=[tmp_path])

    def test_a_path_that_the_system_refuses_is_reported(self) -> None:
        with pytest.raises(ConfigurationError, match="can't read the configuration: "):
            load(Path("a\0b"), {})

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_an_unreadable_file_is_not_skipped(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.yml")
        path.chmod(0)
        with pytest.raises(ConfigurationError, match="Permission denied"):
            load(None, {}, candidates=[path])

    def test_a_huge_file_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.yml", MINIMAL + "#" * (1 << 20))
        with pytest.raises(ConfigurationError, match="more than 1048576 bytes"):
            load(path, {})

    def test_an_endless_file_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="more than 1048576 bytes"):
            load(Path("/dev/zero"), {})

    def test_other_encodings_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yml"
        path.write_bytes(MINIMAL.encode() + b"# \xff")
        with pytest.raises(ConfigurationError, match="not UTF-8 text, at byte 34"):
            load(path, {})

    def test_a_byte_order_mark_is_no_harm(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yml"
        path.write_text(MINIMAL, encoding="utf-8-sig")
        assert load(path, {}).settings.storage.inmemory == InMemorySettings()

    def test_errors_name_file_line_and_key(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.yml", MINIMAL + "http:\n  relativeurls: maybe\n")
        with pytest.raises(ConfigurationError) as caught:
            load(path, {})
        assert caught.value.problems == (
            Problem(
                key="http.relativeurls",
                message="must be true or false, not 'maybe'",
                value="'maybe'",
                line=4,
                path=path,
            ),
        )
        assert str(caught.value) == (
            f"{path}:4: http.relativeurls: must be true or false, not 'maybe'"
        )


class TestTheVersion:
    @pytest.mark.parametrize(
        ("text", "version"),
        [
            ("storage: inmemory\n", '""'),
            ("version: 0.2\nstorage: inmemory\n", '"0.2"'),
            ("version: 0.10\nstorage: inmemory\n", '"0.10"'),
            ("version: [1]\n", '""'),
            ("", '""'),
            ("~", '""'),
        ],
    )
    def test_any_other_is_refused(self, text: str, version: str) -> None:
        (problem,) = problems(text)
        assert problem.message.startswith(f"unsupported version: {version};")

    @pytest.mark.parametrize("text", ["- a\n", "text\n"])
    def test_a_file_is_a_mapping(self, text: str) -> None:
        (problem,) = problems(text)
        assert problem.message == "must be a mapping of keys and values"

    def test_quotes_make_no_difference(self) -> None:
        assert loaded("version: '0.1'\nstorage: inmemory\n").settings.version == "0.1"

    def test_a_second_document_is_not_read_and_said_so(self) -> None:
        text = MINIMAL + "---\nhttp: {addr: ':1'}\n"
        assert findings(text) == [
            "line 3: a second YAML document begins here; only the first is read"
        ]


class TestTheStorage:
    def test_plain_text_is_a_type(self) -> None:
        assert loaded(MINIMAL).settings.storage.driver == InMemorySettings()
        text = "version: 0.1\nstorage: filesystem\n"
        assert loaded(text).settings.storage.driver == FilesystemSettings()

    def test_no_parameters_are_the_defaults(self) -> None:
        text = "version: 0.1\nstorage: {filesystem: , delete: }\n"
        assert loaded(text).settings.storage.driver == FilesystemSettings()

    @pytest.mark.parametrize(
        "storage",
        ["", "storage:", "storage: {}", "storage: ''", "storage: {delete: {enabled: yes}}"],
    )
    def test_there_must_be_one(self, storage: str) -> None:
        (problem,) = problems(f"version: 0.1\n{storage}\n")
        assert str(problem) == "storage: no storage configuration provided"

    def test_there_must_be_only_one(self) -> None:
        text = "version: 0.1\nstorage:\n  filesystem: {}\n  inmemory: {}\n"
        (problem,) = problems(text)
        assert (problem.key, problem.line) == ("storage", 4)
        assert problem.message == (
            "must provide exactly one storage type. Provided: [filesystem inmemory]"
        )

    def test_a_misspelt_key_beside_it_is_a_second_one(self) -> None:
        text = "version: 0.1\nstorage:\n  filesystem: {}\n  delte: {enabled: true}\n"
        (problem,) = problems(text)
        assert problem.message == (
            "must provide exactly one storage type. Provided: [filesystem delte]; "
            "delte is no type of storage; did you mean delete?"
        )

    def test_an_unknown_one_is_refused(self) -> None:
        (problem,) = problems("version: 0.1\nstorage: {ipfs: {}}\n")
        assert str(problem) == (
            "line 2: storage.ipfs: is no type of storage; "
            "one of filesystem, inmemory, s3, s3aws, azure, gcs, oss, swift"
        )

    def test_a_list_is_refused(self) -> None:
        (problem,) = problems("version: 0.1\nstorage: [inmemory]\n")
        assert problem.message == "must be a mapping of keys and values, not a list"

    def test_settings_made_in_python_have_exactly_one_too(self) -> None:
        with pytest.raises(ValueError, match="exactly one storage type"):
            StorageSettings()
        storage = StorageSettings(s3=S3Settings(bucket="b", region="r"))
        with pytest.raises(LookupError, match=r"neither storage\.filesystem nor"):
            _ = storage.driver


class TestAuth:
    def test_none_is_everyone(self) -> None:
        for text in ("", "auth: none", "auth: {none: }", "auth: {}", "auth:", "auth: ''"):
            assert with_key(text).settings.auth.htpasswd is None

    def test_only_one_is_allowed(self) -> None:
        assert problems_with("auth: {none: {}, ldap: {}}") == [
            (
                "line 3: auth: must provide exactly one type. Provided: [none ldap]; "
                "ldap is no type of auth"
            )
        ]

    def test_an_unknown_one_is_refused(self) -> None:
        assert problems_with("auth: ldap") == [
            "line 3: auth.ldap: is no type of auth; one of silly, token, htpasswd, none"
        ]


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("text", "finding"),
        [
            ("htp: {}", "line 3: unknown key htp; did you mean http?"),
            ("HTTP: {}", "line 3: unknown key HTTP; did you mean http?"),
            ("zzz: 1", "line 3: unknown key zzz"),
            (
                "http:\n  headers: {}\n  adr: x",
                "line 5: unknown key http.adr; did you mean addr?",
            ),
            (
                "health:\n  tcp:\n  - addr: x\n    timeot: 1s",
                "line 6: unknown key health.tcp[0].timeot; did you mean timeout?",
            ),
            (
                "notifications: {endpoints: [{disabled: true, headers: {a: [b]}, nme: x}]}",
                "line 3: unknown key notifications.endpoints[0].nme; did you mean name?",
            ),
            ("redis:\n  tls: {enabled: true}", "line 4: unknown key redis.tls.enabled"),
        ],
    )
    def test_they_are_named_with_line_and_nearest_name(self, text: str, finding: str) -> None:
        found = with_key(text).findings
        assert str(found[0]) == finding
        assert found[0].kind is FindingKind.UNKNOWN

    def test_they_are_told_along_with_errors(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            with_key("htp: 1\nlog: {level: x}")
        assert [finding.key for finding in caught.value.findings] == ["htp"]


def test_the_walkthroughs_configuration_is_taken_as_it_is() -> None:
    found = loaded(WALKTHROUGH)
    assert [finding.kind for finding in found.findings] == [FindingKind.LEGACY]
    assert found.settings.log.fields == {"service": "registry"}
    assert found.settings.storage.cache.blobdescriptor == "inmemory"
    assert not found.settings.storage.delete.enabled


def test_the_configuration_in_distributions_image_is_taken_as_it_is() -> None:
    found = loaded("""\
        version: 0.1
        log:
          level: debug
          fields: {service: registry, environment: development}
        storage:
          delete: {enabled: true}
          cache: {blobdescriptor: inmemory}
          filesystem: {rootdirectory: /var/lib/registry}
          maintenance:
            uploadpurging: {enabled: false}
          tag: {concurrencylimit: 8}
        http:
          addr: :5000
          debug:
            addr: :5001
            prometheus: {enabled: true, path: /metrics}
          headers:
            X-Content-Type-Options: [nosniff]
        health:
          storagedriver: {enabled: true, interval: 10s, threshold: 3}
        """)
    assert [finding.key for finding in found.findings] == ["storage.tag.concurrencylimit"]
    assert not found.settings.storage.maintenance.uploadpurging.enabled
    assert found.settings.storage.maintenance.uploadpurging.age == timedelta(hours=168)
    assert found.settings.http.headers == {"X-Content-Type-Options": ("nosniff",)}
    assert found.settings.health.storagedriver.threshold == 3


KEYS = st.sampled_from(
    [
        "version",
        "log",
        "level",
        "storage",
        "filesystem",
        "inmemory",
        "s3",
        "delete",
        "enabled",
        "auth",
        "htpasswd",
        "token",
        "http",
        "addr",
        "headers",
        "tls",
        "secret",
        "health",
        "file",
        "middleware",
        "options",
        "redis",
        "pool",
        "addrs",
        "validation",
        "manifests",
        "urls",
        "allow",
        "deny",
        "loglevel",
        "proxy",
        "remoteurl",
        "notifications",
        "endpoints",
        "fields",
        "hooks",
        "maxtags",
        "x",
        "<<",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["5s", "inmemory", "(", "[[:alpha:]]", "http://a:b@c", "http://[", "tls1.2"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=200, deadline=None)  # the machine may be busy
@given(
    st.dictionaries(KEYS, VALUES, max_size=8),
    st.dictionaries(
        st.lists(KEYS | st.sampled_from(["0", "1", "-1", ""]), min_size=1, max_size=4).map(
            lambda parts: "REGISTRY_" + "_".join(parts).upper()
        ),
        st.text(max_size=20)
        | st.sampled_from(["[]", "{}", "{a: b}", "*a", "&a [*a]", "true", "5s", "s3", "inmemory"]),
        max_size=6,
    ),
)
def test_whatever_is_configured_loads_or_is_refused(
    document: dict[str, object], environ: dict[str, str]
) -> None:
    text = yaml.safe_dump({"storage": "inmemory"} | document | {"version": 0.1})
    outcome: Settings | str
    try:
        outcome = load(None, environ, candidates=(), default=text).settings
    except ConfigurationError as error:
        outcome = str(error)
    assert outcome


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_whatever_the_file_is_it_loads_or_is_refused(text: str) -> None:
    for default in (text, MINIMAL + text):
        outcome: Settings | str
        try:
            outcome = load(None, {}, candidates=(), default=default).settings
        except ConfigurationError as error:
            outcome = str(error)
        assert outcome


def test_the_embedded_default_is_a_configuration() -> None:
    assert findings(DEFAULT_CONFIGURATION) == []
