# ruff: noqa: E501 -- a row of a table ends with the whole sentence that is printed
import pytest

from dockyard.config.availability import UNAVAILABLE
from dockyard.config.schema import keys
from tests.unit.config.configurations import MINIMAL, loaded, problems, problems_with, with_key


S3 = "{bucket: b, region: r}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("log: {hooks: [{type: mail}, {type: mail}]}", "log.hooks"),
        ("middleware: {registry: [{name: a}]}", "middleware.registry"),
        ("middleware: {repository: [{name: a, disabled: no}]}", "middleware.repository"),
        ("middleware: {storage: [{disabled: yes}, {name: a}]}", "middleware.storage"),
        ("notifications: {endpoints: [{name: a, url: u}]}", "notifications.endpoints"),
        ("proxy: {remoteurl: 'https://a'}", "proxy.remoteurl"),
    ],
)
def test_a_feature_that_is_not_there_stops_the_start(text: str, key: str) -> None:
    (problem,) = problems_with(text)
    assert problem.startswith(f"line 3: {key}: not available in this version of Dockyard; ")
    assert problem.endswith(", or keep docker-distribution for it")


@pytest.mark.parametrize("mode", ["request-client-cert", "require-any-client-cert"])
def test_a_certificate_that_nobody_verifies_is_refused_with_what_can_be_instead(mode: str) -> None:
    (problem,) = problems_with(f"http: {{tls: {{certificate: c, key: k, clientauth: {mode}}}}}")
    assert problem.startswith("line 3: http.tls.clientauth: not available in Dockyard: ")
    assert "say verify-client-cert-if-given or require-and-verify-client-cert" in problem
    assert problem.endswith("with http.tls.clientcas, or end TLS in a proxy")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"storage: {{s3: {S3}}}", "s3"),
        (f"storage: {{s3aws: {S3}}}", "s3aws"),
        ("storage: {azure: {accountname: a, container: c}}", "azure"),
        ("storage: {gcs: {bucket: b}}", "gcs"),
        ("storage: {oss: {bucket: b}}", "oss"),
        ("storage: {swift: {authurl: a, container: c}}", "swift"),
        ("storage: {inmemory: , cache: {blobdescriptor: redis}}", "cache.blobdescriptor"),
    ],
)
def test_a_storage_that_is_not_there_stops_the_start(text: str, key: str) -> None:
    (problem,) = problems(f"version: 0.1\n{text}\n")
    assert str(problem).startswith(f"line 2: storage.{key}: not available in this version")


def test_an_old_name_is_told_as_it_was_written() -> None:
    (problem,) = problems("version: 0.1\nstorage: {inmemory: , cache: {layerinfo: redis}}\n")
    assert problem.key == "storage.cache.layerinfo"


def test_a_variable_is_told() -> None:
    (problem,) = problems(MINIMAL, REGISTRY_PROXY_REMOTEURL="https://a")
    assert problem.variable == "REGISTRY_PROXY_REMOTEURL"


def test_a_wrong_value_of_it_is_told_too() -> None:
    found = problems_with("log: {hooks: [{type: mail}, {disabled: maybe}]}")
    assert len(found) == 2
    assert "log.hooks[1].disabled: " in found[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ciphersuites: [RC4]", "unknown TLS cipher suite 'RC4' specified for http.tls.cipherSuites"),
        ("certificate: c, letsencrypt: {cachefile: f}", "cannot specify both certificate and Let's Encrypt"),
        ("minimumtls: tls1.0", 'http.tls.minimumtls: unknown minimum TLS level "tls1.0"; one of tls1.2, tls1.3'),
        ("certificate: c", "there is a certificate and no key; name the file of both"),
        ("key: k", "there is a key and no certificate; name the file of both"),
        ("clientcas: [a]", "without certificate and key this would be plain http; name their files, or remove the section"),
        ("minimumtls: tls1.3", "without certificate and key this would be plain http; name their files, or remove the section"),
        ("letsencrypt: {cachefile: f}", "letsencrypt.hosts is empty: name the hosts to get certificates for"),
        ("letsencrypt: {hosts: [a.example]}", "without certificate and key this would be plain http; name their files, or remove the section"),
        ("clientauth: maybe", "must be one of request-client-cert, require-any-client-cert, verify-client-cert-if-given, require-and-verify-client-cert, not 'maybe'"),
    ],
)  # fmt: skip
def test_the_values_of_tls_are_checked(text: str, message: str) -> None:
    assert any(problem.endswith(message) for problem in problems_with(f"http: {{tls: {{{text}}}}}"))


@pytest.mark.parametrize("host", ["*.a.example", "a.example:443", "192.0.2.1", "localhost", "bücher.example", "../a.example", ""])  # fmt: skip
def test_a_host_must_be_one_that_an_authority_certifies(host: str) -> None:
    found = problems_with(
        f"http: {{tls: {{letsencrypt: {{cachefile: f, hosts: [a.example, '{host}']}}}}}}"
    )
    assert any("http.tls.letsencrypt.hosts[1]: must be a host's name" in each for each in found)


def test_an_authority_is_https() -> None:
    found = problems_with(
        "http: {tls: {letsencrypt: {cachefile: f, hosts: [a.example], directoryurl: 'http://a'}}}"
    )
    assert "http.tls.letsencrypt.directoryurl: must be an https URL" in found[0]


def test_what_tls_can_do_is_known() -> None:
    text = (
        "http: {tls: {certificate: c, key: k, clientcas: [a],"
        " clientauth: verify-client-cert-if-given,"
        " ciphersuites: [TLS_AES_128_GCM_SHA256], minimumtls: tls1.3}}"
    )
    assert with_key(text).findings == ()


def test_sizes_that_fit_are_taken() -> None:
    text = "version: 0.1\nstorage: {gcs: {bucket: b, chunksize: 262144}}\n"
    assert len(problems(text)) == 1
    text = "version: 0.1\nstorage: {s3: {bucket: b, region: r, chunksize: '5242880'}}\n"
    assert len(problems(text)) == 1


def test_the_algorithms_of_tokens_are_checked() -> None:
    (problem,) = problems_with(
        "auth: {token: {realm: r, service: s, issuer: i, signingalgorithms: [RS256, none]}}"
    )
    assert "auth.token.signingalgorithms[1]: must be one of EdDSA," in problem


@pytest.mark.parametrize(
    "text",
    [
        "auth: none",
        "http: {tls: {}}",
        "http: {tls: {certificate: '', clientcas: [], letsencrypt: {email: ''}}}",
        "http: {tls: {minimumtls: ''}}",
        "http: {h2c: {enabled: false}, http2: {}}",
        "http: {h2c: {enabled: on}, http2: {disabled: on}}",
        "log: {hooks: [{type: mail, disabled: true}]}",
        "log: {hooks: }",
        "middleware: {storage: [{name: a, disabled: true, options: {a: b}}]}",
        "notifications: {events: {includereferences: true}, endpoints: []}",
        "notifications: {endpoints: [{name: a, disabled: true}]}",
        "proxy: {remoteurl: ''}",
        "proxy: {ttl: 0}",
    ],
)
def test_what_asks_for_nothing_is_taken(text: str) -> None:
    assert with_key(text).findings == ()


@pytest.mark.parametrize(
    "text", ["middleware: 5", "log: {hooks: 5}", "auth: [a]", "http: {tls: 5}"]
)
def test_what_has_the_wrong_shape_is_told(text: str) -> None:
    assert any("must be a" in problem for problem in problems_with(text))


def test_the_cache_in_memory_is_taken_without_a_word() -> None:
    text = "version: 0.1\nstorage: {inmemory: , cache: {blobdescriptor: inmemory}}\n"
    assert loaded(text).findings == ()


def test_the_table_names_keys_of_the_schema() -> None:
    known = list(keys())
    for key, _asks in UNAVAILABLE:
        assert any(name == key or name.startswith((f"{key}.", f"{key}[")) for name in known)
