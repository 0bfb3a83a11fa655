import pytest

from dockyard.config import FindingKind
from tests.unit.config.configurations import MINIMAL, loaded, problems, problems_with, with_key


def findings_of(text: str, **environ: str) -> list[str]:
    return [str(finding) for finding in with_key(text, **environ).findings]


def test_a_variable_takes_the_place_of_the_file() -> None:
    assert with_key("http: {addr: ':1'}", REGISTRY_HTTP_ADDR=":2").settings.http.addr == ":2"
    assert with_key("", REGISTRY_HTTP_ADDR=":2").settings.http.addr == ":2"
    assert with_key("http: ", REGISTRY_HTTP_ADDR=":2").settings.http.addr == ":2"


def test_a_value_is_yaml() -> None:
    found = with_key(
        "http: {headers: {a: [b]}}",
        REGISTRY_HTTP_HEADERS="{X-A: [b, c]}",
        REGISTRY_STORAGE_DELETE_ENABLED="yes",
        REGISTRY_HTTP_DRAINTIMEOUT="1m",
        REGISTRY_STORAGE_MAINTENANCE_READONLY='{"enabled": true}',
    ).settings
    assert found.http.headers == {"X-A": ("b", "c")}
    assert found.storage.delete.enabled
    assert found.http.draintimeout.total_seconds() == 60
    assert found.storage.maintenance.readonly.enabled


def test_the_text_of_a_value_is_kept_where_text_belongs() -> None:
    secret = with_key("", REGISTRY_HTTP_SECRET="0123").settings.http.secret
    assert secret is not None
    assert secret.get_secret_value() == "0123"


def test_an_empty_value_is_no_key() -> None:
    assert with_key("http: {addr: ':1'}", REGISTRY_HTTP_ADDR="").settings.http.addr == ":5000"


def test_variables_are_applied_in_the_order_of_their_names() -> None:
    found = loaded(
        MINIMAL,
        REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="/data",
        REGISTRY_STORAGE="filesystem",
    )
    assert found.settings.storage.filesystem is not None
    assert str(found.settings.storage.filesystem.rootdirectory) == "/data"


def test_other_variables_are_none_of_our_business() -> None:
    assert findings_of("", HOME="/", REGISTRYX_A="1", REGISTRY_CONFIGURATION_PATH="") == []


@pytest.mark.parametrize(
    "variable",
    [
        "REGISTRY_",
        "REGISTRY_PORT",
        "REGISTRY_PORT_5000_TCP",
        "REGISTRY_http_addr",
        "REGISTRY_HTTP_",
        "REGISTRY_HTTP_ADDRESS",
        "REGISTRY_HTTP_ADDR_X",
        "REGISTRY_STORAGE_DELETE_DISABLED",
        "REGISTRY_STORAGE_INMEMORY_X",
        "REGISTRY_STORAGE_",
    ],
)
def test_a_name_that_fits_no_key_is_told(variable: str) -> None:
    (finding,) = with_key("", **{variable: "x"}).findings
    assert finding.kind is FindingKind.UNKNOWN
    assert str(finding) == f"Ignoring unrecognized environment variable {variable}"


def test_a_name_that_is_no_text_can_be_printed() -> None:
    (finding,) = with_key("", **{"REGISTRY_\udcff": "x"}).findings
    assert finding.key == "REGISTRY_\\udcff"


def test_the_version_is_the_files() -> None:
    found = with_key("", REGISTRY_VERSION="0.2")
    assert found.settings.version == "0.1"
    assert found.findings[0].kind is FindingKind.IGNORED


@pytest.mark.parametrize("name", ["FILE", "FILECHECKERS"])
def test_both_spellings_of_health_checks_of_files_work(name: str) -> None:
    found = with_key("", **{f"REGISTRY_HEALTH_{name}_0_FILE": "/x"}).settings.health.file
    assert [check.file for check in found] == ["/x"]


@pytest.mark.parametrize("name", ["HTTP", "HTTPCHECKERS"])
def test_both_spellings_of_health_checks_of_urls_work(name: str) -> None:
    found = with_key("", **{f"REGISTRY_HEALTH_{name}_0_URI": "http://x"}).settings.health.http
    assert [check.uri for check in found] == ["http://x"]


@pytest.mark.parametrize("name", ["TCP", "TCPCHECKERS"])
def test_both_spellings_of_health_checks_of_addresses_work(name: str) -> None:
    found = with_key("", **{f"REGISTRY_HEALTH_{name}_0": "{addr: ':1'}"}).settings.health.tcp
    assert [check.addr for check in found] == [":1"]


@pytest.mark.parametrize("name", ["EVENTS", "EVENTCONFIG"])
def test_both_spellings_of_events_work(name: str) -> None:
    environ = {f"REGISTRY_NOTIFICATIONS_{name}_INCLUDEREFERENCES": "true"}
    assert with_key("", **environ).settings.notifications.events.includereferences


@pytest.mark.parametrize("name", ["OPTIONS", "MAILOPTIONS"])
def test_both_spellings_of_mail_work(name: str) -> None:
    environ = {f"REGISTRY_LOG_HOOKS_0_{name}_FROM": "a@b", "REGISTRY_LOG_HOOKS_0_DISABLED": "true"}
    assert with_key("", **environ).settings.log.hooks[0].options.from_ == "a@b"


class TestLists:
    TEXT = "health: {tcp: [{addr: a, interval: 1s}, {addr: b}]}"

    def test_an_element_is_edited(self) -> None:
        found = with_key(self.TEXT, REGISTRY_HEALTH_TCP_0_ADDR="c").settings.health.tcp
        assert [(check.addr, check.interval.seconds) for check in found] == [("c", 1), ("b", 10)]

    def test_the_next_element_is_added(self) -> None:
        found = with_key(self.TEXT, REGISTRY_HEALTH_TCP_2_ADDR="c").settings.health.tcp
        assert [check.addr for check in found] == ["a", "b", "c"]

    def test_single_values_are_elements_too(self) -> None:
        found = with_key("", REGISTRY_REDIS_ADDRS_0="a", REGISTRY_REDIS_ADDRS_1="b").settings
        assert found.redis.addrs == ("a", "b")

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            ("3", "undefined index: 3; the next of this list is 2"),
            (
                "99999999999999999999",
                "undefined index: 99999999999999999999; the next of this list is 2",
            ),
            ("X", "non-numeric index: X"),
            ("-1", "non-numeric index: -1"),
            ("٣", "non-numeric index: ٣"),
        ],
    )
    def test_other_places_are_refused(self, index: str, message: str) -> None:
        variable = f"REGISTRY_HEALTH_TCP_{index}_ADDR"
        assert problems_with(self.TEXT, **{variable: "x"}) == [
            f"environment variable {variable}: {message}"
        ]


class TestNamesOfTheOperator:
    def test_a_new_one_becomes_lower_case(self) -> None:
        assert with_key("", REGISTRY_LOG_FIELDS_SERVICE="x").settings.log.fields == {"service": "x"}

    def test_one_that_is_there_keeps_its_case(self) -> None:
        found = with_key("log: {fields: {Service: a}}", REGISTRY_LOG_FIELDS_SERVICE="x")
        assert found.settings.log.fields == {"Service": "x"}

    def test_headers_are_lists(self) -> None:
        environ = {"REGISTRY_HTTP_HEADERS_X-A_0": "b", "REGISTRY_HTTP_HEADERS_X-C": "[d]"}
        assert with_key("", **environ).settings.http.headers == {"x-a": ("b",), "x-c": ("d",)}

    def test_free_values_grow_deeper(self) -> None:
        found = with_key(
            "middleware: {storage: [{disabled: true, options: {list: [{a: 1}]}}]}",
            REGISTRY_MIDDLEWARE_STORAGE_0_OPTIONS_LIST_0_A="2",
            REGISTRY_MIDDLEWARE_STORAGE_0_OPTIONS_B_C="x",
        ).settings
        assert found.middleware.storage[0].options == {"list": [{"a": 2}], "b": {"c": "x"}}


class TestTheStorage:
    def test_a_second_type_is_refused_as_distribution_words_it(self) -> None:
        text = "version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\n"
        (problem,) = problems(text, REGISTRY_STORAGE_S3_BUCKET="b")
        assert str(problem) == (
            "environment variable REGISTRY_STORAGE_S3_BUCKET: storage: "
            "multiple storage drivers specified in configuration or environment: filesystem, s3"
        )

    def test_any_other_name_is_a_second_type(self) -> None:
        (problem,) = problems(MINIMAL, REGISTRY_STORAGE_SERVICE_HOST="x")
        assert "specified in configuration or environment: inmemory, service;" in problem.message

    def test_two_types_in_one_variable_are_refused(self) -> None:
        (problem,) = problems("version: 0.1", REGISTRY_STORAGE="{inmemory: , filesystem: }")
        assert problem.message == (
            "must provide exactly one storage type. Provided: [inmemory filesystem]"
        )

    def test_plain_text_can_be_extended(self) -> None:
        text = "version: 0.1\nstorage: filesystem\n"
        found = loaded(text, REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="/data").settings
        assert str(found.storage.driver) == "rootdirectory=PosixPath('/data') maxthreads=100"


class TestErrors:
    def test_a_wrong_value_names_the_variable(self) -> None:
        assert problems_with("", REGISTRY_STORAGE_DELETE_ENABLED='"true"') == [
            (
                "environment variable REGISTRY_STORAGE_DELETE_ENABLED: storage.delete.enabled: "
                "must be true or false without quotes, not 'true'"
            )
        ]

    def test_what_is_not_yaml_names_the_variable(self) -> None:
        assert problems_with("", REGISTRY_HTTP_ADDR="[::]:5000")[0].startswith(
            "environment variable REGISTRY_HTTP_ADDR: http.addr: not valid YAML at column"
        )

    def test_a_secret_is_not_shown(self) -> None:
        assert problems_with("", REGISTRY_HTTP_SECRET="%hunter2") == [
            (
                "environment variable REGISTRY_HTTP_SECRET: http.secret: "
                "not valid YAML; put quotes around it"
            )
        ]
        assert "hunter2" not in str(problems_with("", REGISTRY_HTTP="{secret: *hunter2}"))
        assert "hunter2" not in str(problems_with("", REGISTRY_HTTP_SECRET="[hunter2]"))

    def test_a_huge_value_is_refused(self) -> None:
        (problem,) = problems_with("", REGISTRY_HTTP_ADDR="x" * ((1 << 17) + 1))
        assert problem.endswith("the value has more than 131072 characters")

    @pytest.mark.parametrize(
        ("text", "variable", "message"),
        [
            ("http: 5", "REGISTRY_HTTP_ADDR", "must be a mapping of keys and values, not '5'"),
            (
                "log: {fields: [a]}",
                "REGISTRY_LOG_FIELDS_A",
                "must be a mapping of keys and values, not a list",
            ),
            ("redis: {addrs: x}", "REGISTRY_REDIS_ADDRS_0", "must be a list, not 'x'"),
        ],
    )
    def test_a_wrong_section_of_the_file_is_not_hidden(
        self, text: str, variable: str, message: str
    ) -> None:
        (problem,) = problems_with(text, **{variable: "x"})
        assert problem.startswith("line 3: ")
        assert problem.endswith(message)
