# ruff: noqa: E501 -- a row of a table ends with the whole sentence that is printed
from datetime import timedelta

import pytest

from dockyard.config import Settings
from tests.unit.config.configurations import problems, problems_with, with_key


def settings(text: str) -> Settings:
    return with_key(text).settings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "log: {level: loud}",
            "log.level: invalid loglevel loud Must be one of [error, warn, info, debug]",
        ),
        ("log: {level: [a]}", "log.level: must be one of error, warn, info, debug, not a list"),
        (
            "log: {formatter: xml}",
            'log.formatter: unsupported logging formatter: "xml"; one of text, json, logstash',
        ),
        ("log: {formatter: [a]}", "log.formatter: must be one of text, json, logstash, not a list"),
        ("log: {fields: x}", "log.fields: must be a mapping of keys and values, not 'x'"),
        ("log: [a]", "log: must be a mapping of keys and values, not a list"),
        ("http: {addr: [a]}", "http.addr: must be text, not a list"),
        ("http: {addr: {a: b}}", "http.addr: must be text, not a mapping"),
        ("http: {net: udp}", "http.net: unknown address type udp; one of tcp, unix"),
        ("http: {net: [a]}", "http.net: must be one of tcp, unix, not a list"),
        (
            "http: {prefix: a/}",
            "http.prefix: must begin and end with a slash, as in /registry/, not 'a/'",
        ),
        (
            "http: {accelredirect: blobs}",
            (
                "http.accelredirect: must be the path of a location in the proxy, "
                "as in /blobs/, not 'blobs'"
            ),
        ),
        (
            "http: {host: example.com}",
            "http.host: must be an absolute URL such as https://registry.example.com, not 'example.com'",
        ),
        (
            "http: {host: 'http://u:p@['}",
            "http.host: must be an absolute URL such as https://registry.example.com, not 'http://********@['",
        ),
        (
            "http: {host: 'ftp://a'}",
            "http.host: must be an absolute URL such as https://registry.example.com, not 'ftp://a'",
        ),
        (
            "http: {host: 'http://a?b'}",
            "http.host: must be a URL without query and fragment, not 'http://a?b'",
        ),
        ("http: {workers: 0}", "http.workers: must be from 1 to 64, not '0'"),
        ("http: {workers: 65}", "http.workers: must be from 1 to 64, not '65'"),
        ("http: {draintimeout: 5}", None),
        ("http: {draintimeout: -5s}", "http.draintimeout: must not be negative, not '-5s'"),
        (
            "http: {draintimeout: '5'}",
            "http.draintimeout: must be a duration such as 90s, 1h30m or 100ms, not '5'",
        ),
        ("http: {headers: {a: b}}", "http.headers.a: must be a list, not 'b'"),
        ("http: {headers: {'a b': [c]}}", "http.headers.a b: must be the name of a header field"),
        (
            'http: {headers: {a: ["b\\r\\nc: d"]}}',
            r"http.headers.a[0]: must be a header value: one line of Latin-1 characters, not 'b\r\nc: d'",
        ),
        ("http: {secret: [a]}", "http.secret: must be text, not a list"),
        ("catalog: {maxentries: many}", "catalog.maxentries: must be a whole number, not 'many'"),
        ("tags: {maxtags: -1}", "tags.maxtags: must not be negative, not '-1'"),
        (
            "validation: {manifests: {urls: {allow: ['(']}}}",
            "validation.manifests.urls.allow[0]: must be a regular expression (missing ), unterminated subpattern at position 0), not '('",
        ),
        (
            "validation: {manifests: {urls: {deny: ['[[:alpha:]]']}}}",
            "validation.manifests.urls.deny[0]: must be a regular expression (Possible nested set at position 1), not '[[:alpha:]]'",
        ),
        (
            "validation: {manifests: {indexes: {platforms: Some}}}",
            "validation.manifests.indexes.platforms: invalid platforms option some Must be one of [all, none, list]",
        ),
        (
            "validation: {manifests: {indexes: {platforms: [a]}}}",
            "validation.manifests.indexes.platforms: must be one of all, none, list, not a list",
        ),
        ("health: {http: [{}]}", "health.http[0].uri: is required"),
        ("health: {http: [~]}", "health.http[0].uri: is required"),
        (
            "health: {http: [{uri: x, statuscode: 42}]}",
            "health.http[0].statuscode: must be an HTTP status, from 100 to 599, not '42'",
        ),
        (
            "health: {http: [{uri: x, headers: {Authorization: [[hunter2]]}}]}",
            "health.http[0].headers.Authorization[0]: must be text, not a list",
        ),
        ("health: {tcp: x}", "health.tcp: must be a list, not 'x'"),
        ("redis: {pool: 5}", "redis.pool: must be a mapping of keys and values, not '5'"),
        (
            f"http: {{net: '{'x' * 100}'}}",
            f"http.net: unknown address type {'x' * 100}; one of tcp, unix",
        ),
        (
            f"http: {{workers: '{'x' * 100}'}}",
            f"http.workers: must be a whole number, not '{'x' * 80}…'",
        ),
    ],
)
def test_a_wrong_value_names_key_value_and_what_is_allowed(text: str, problem: str | None) -> None:
    assert problems_with(text) == ([f"line 3: {problem}"] if problem else [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("filesystem: {rootdirectory: ''}", "filesystem.rootdirectory: must be the path of a directory, not ''"),
        ('filesystem: {rootdirectory: "a\\0"}', r"filesystem.rootdirectory: must be a path, without NUL characters, not 'a\x00'"),
        ("filesystem: {rootdirectory: [a]}", "filesystem.rootdirectory: must be a path, not a list"),
        ("filesystem: {maxthreads: few}", "filesystem.maxthreads: must be a whole number, not 'few'"),
        ("delete: {enabled: maybe}", "delete.enabled: must be true or false, not 'maybe'"),
        ("delete: yes", "delete: must be a mapping of keys and values, not 'yes'"),
        ("cache: {blobdescriptor: disk}", "cache.blobdescriptor: must be one of inmemory, redis, not 'disk'"),
        ("maintenance: {uploadpurging: {age: 168}}", "maintenance.uploadpurging.age: must be a duration such as 90s, 1h30m or 100ms, not '168'"),
        ("maintenance: {uploadpurging: {age: -1h}}", "maintenance.uploadpurging.age: must not be negative, not '-1h'"),
        ("maintenance: {uploadpurging: {interval: 0s}}", "maintenance.uploadpurging.interval: must be longer than zero, not '0s'"),
        ("s3: {bucket: b}", "s3: must have a region, or a regionendpoint"),
        ("s3: {region: r}", "s3.bucket: is required"),
        ("s3: {bucket: b, region: r, chunksize: 1}", "s3.chunksize: must be at least 5242880 bytes (5 MiB), not '1'"),
        ("s3: {bucket: b, region: r, secretkey: [x]}", "s3.secretkey: must be text, not a list"),
        ("s3: {bucket: b, region: r, storageclass: COLD}", "s3.storageclass: must be one of NONE, STANDARD, REDUCED_REDUNDANCY, STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, OUTPOSTS, GLACIER_IR, EXPRESS_ONEZONE, not 'COLD'"),
        ("gcs: {bucket: b, chunksize: 1}", "gcs.chunksize: must be a multiple of 262144 bytes (256 KiB), not '1'"),
        ("gcs: {bucket: b, credentials: {private_key: [x]}}", "gcs.credentials.private_key: must be text, not a list"),
    ],
)  # fmt: skip
def test_a_wrong_value_of_the_storage_names_key_value_and_what_is_allowed(
    text: str, problem: str
) -> None:
    driver = (
        "" if text.split(":", maxsplit=1)[0] in {"filesystem", "s3", "gcs"} else ", inmemory: {}"
    )
    found = problems_with_storage("{" + text + driver + "}")
    assert f"line 2: storage.{problem}" in found


def problems_with_storage(storage: str) -> list[str]:
    return [str(problem) for problem in problems(f"version: 0.1\nstorage: {storage}\n")]


def test_every_problem_is_told_at_once() -> None:
    assert len(problems_with("http: {net: x, host: y}\nlog: {level: z}")) == 3


@pytest.mark.parametrize("level", ["WARN", "Warn", "warn"])
def test_levels_are_told_apart_by_their_letters_only(level: str) -> None:
    assert settings(f"log: {{level: {level}}}").log.level == "warn"


def test_numbers_where_text_belongs_are_their_text() -> None:
    found = settings(
        "http: {addr: 5000, secret: 0123}\npolicy: {repository: {classes: [1.0, yes]}}"
    )
    assert found.http.addr == "5000"
    assert found.http.secret is not None
    assert found.http.secret.get_secret_value() == "0123"
    assert found.policy.repository.classes == ("1.0", "yes")


def test_secrets_do_not_show() -> None:
    found = settings(
        "http: {secret: hunter2}\nredis: {password: hunter2}\n"
        "health: {http: [{uri: x, headers: {Authorization: [hunter2]}}]}"
    )
    assert "hunter2" not in repr(found)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("", "/"), ("''", "/"), ("/", "/"), ("/a/", "/a/"), ("/a", "/a/"), ("/a/b/", "/a/b/")],
)
def test_the_prefix_begins_and_ends_with_a_slash(text: str, prefix: str) -> None:
    assert settings(f"http: {{prefix: {text}}}").http.prefix == prefix


@pytest.mark.parametrize(
    "key", ["host", "secret", "addr", "net", "debug", "headers", "tls", "workers"]
)
def test_a_key_without_a_value_is_as_good_as_absent(key: str) -> None:
    assert settings(f"http: {{{key}: }}").http == settings("").http


def test_empty_texts_are_none() -> None:
    found = settings(
        "http: {host: '', secret: '', net: '', debug: {addr: ''}}\nlog: {formatter: ''}"
    )
    assert (found.http.host, found.http.secret, found.http.debug.addr) == (None, None, None)
    assert found.http.net == "tcp"
    assert found.log.formatter == "text"


def test_zero_is_the_default_where_it_would_mean_nothing() -> None:
    found = settings(
        "catalog: {maxentries: -5}\ntags: {maxtags: 0}\n"
        "health:\n  http: [{uri: x, interval: 0, timeout: 0s, threshold: 0, statuscode: 0}]\n"
    )
    assert found.catalog.maxentries == 1000
    assert found.tags.maxtags == 1000
    (check,) = found.health.http
    assert check.interval == check.timeout == timedelta(seconds=10)
    assert (check.threshold, check.statuscode) == (1, 200)


def test_a_status_is_kept() -> None:
    (check,) = settings("health: {http: [{uri: x, statuscode: 204}]}").health.http
    assert check.statuscode == 204


def test_limits_are_kept() -> None:
    found = settings("catalog: {maxentries: 5}\ntags: {maxtags: 6}\nhttp: {workers: 64}")
    assert (found.catalog.maxentries, found.tags.maxtags, found.http.workers) == (5, 6, 64)


def test_nulls_in_lists_are_empty() -> None:
    found = settings(
        "log: {fields: {a: , b: [1, {c: d}]}}\nhttp: {headers: {X-A: , X-B: [~]}}\n"
        "policy: {repository: {classes: [~]}}\n"
        "validation: {manifests: {indexes: {platformlist: [~]}}}\n"
    )
    assert found.log.fields == {"a": None, "b": [1, {"c": "d"}]}
    assert found.http.headers == {"X-A": (), "X-B": ("",)}
    assert found.policy.repository.classes == ("",)
    assert found.validation.manifests.indexes.platformlist[0].os is None


def test_what_is_validated_is_kept() -> None:
    found = settings(
        "validation:\n  manifests:\n    urls: {allow: ['^https://a/'], deny: ['b']}\n"
        "    indexes: {platforms: LIST, platformlist: [{architecture: amd64, os: linux}]}\n"
        "http: {host: 'https://a/b', net: unix, addr: /run/x}\n"
    )
    assert found.validation.manifests.urls.allow == ("^https://a/",)
    assert found.validation.manifests.indexes.platforms == "list"
    assert found.http.host == "https://a/b"
    assert found.http.net == "unix"
