"""The section ``access``: who is vouched for by others."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from dockyard.config import ConfigurationError, Settings, load


def read(folder: Path, access: dict[str, Any], **more: Any) -> Settings:  # noqa: ANN401
    path = folder / "config.yml"
    tls = {"certificate": "c", "key": "k", "clientcas": ["ca"]}
    document = {"version": 0.1, "storage": "inmemory", "http": {"tls": tls}, "access": access}
    path.write_text(yaml.safe_dump(document | more))
    return load(path, {}).settings


@pytest.mark.parametrize(
    ("certificate", "told"),
    [
        ({"principal": "alice"}, "access.certificates[0]: needs a pattern: one of cn, dns, uri"),
        ({"cn": "a***"}, "access.certificates[0].cn: must be a pattern"),
        ({"cn": "a\n"}, "access.certificates[0].cn: must be a pattern"),
        ({"cn": "a", "principal": "user:"}, "must be a name, or user:NAME, or robot:NAME"),
        ({"cn": "a", "principal": "a b"}, "must be a name of letters"),
        ({"cn": "a", "principal": "robot$a"}, "must be a name of letters"),
        ({"cn": "a", "principal": "{cn}{dns}"}, "with something between two of them"),
        ({"cn": "a", "principal": "{CN}"}, "has no {CN} to make principal of"),
        ({"cn": "a", "groups": ["a b"]}, "must be the name of a group"),
    ],
)
def test_a_certificate_that_nobody_can_show_is_refused(
    tmp_path: Path, certificate: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, {"certificates": [certificate]})
    assert told in str(caught.value)


def test_without_an_authority_no_certificate_is_believed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs http\.tls\.clientcas: "):
        read(tmp_path, {"certificates": [{"cn": "a"}]}, http={"addr": ":5000"})


@pytest.mark.parametrize(
    ("who", "known"),
    [
        ("robot:node", True),
        ("robot:other", False),
        ("group:machines", True),
        ("group:other", False),
        ("user:cert:a/b", True),
    ],
)
def test_rules_can_be_about_who_shows_a_certificate(
    tmp_path: Path, who: str, *, known: bool
) -> None:
    certificate = {"cn": "*", "principal": "robot:node", "groups": ["machines"]}
    rule = {"repositories": ["**"], "actions": ["pull"], "who": [who]}
    access = {"certificates": [certificate], "rules": [rule]}
    if known:
        assert read(tmp_path, access).access is not None
    else:
        with pytest.raises(ConfigurationError, match="but there is no such"):
            read(tmp_path, access)


def test_a_rule_can_be_about_any_robot_that_a_template_may_make(tmp_path: Path) -> None:
    rule = {"repositories": ["**"], "actions": ["pull"], "who": ["robot:node-1"]}
    read(tmp_path, {"certificates": [{"cn": "*", "principal": "robot:{cn}"}], "rules": [rule]})


OIDC: dict[str, Any] = {
    "issuer": "https://issuer.example",
    "audience": "registry",
    "conditions": {"repository": "octo/*"},
    "principal": "ci:{repository}",
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"issuer": None}, "access.oidc[0].issuer: is required"),
        ({"audience": None}, "access.oidc[0].audience: is required"),
        ({"audience": ""}, "access.oidc[0]: needs an issuer and an audience"),
        ({"conditions": None}, "access.oidc[0].conditions: is required"),
        ({"conditions": {}}, "access.oidc[0]: needs conditions: without them whoever has"),
        ({"conditions": {"a": []}}, "access.oidc[0]: needs conditions"),
        ({"conditions": {"a": "x***"}}, "access.oidc[0].conditions.a[0]: must be a pattern"),
        ({"conditions": {"a": ""}}, "access.oidc[0].conditions.a[0]: must be a pattern"),
        ({"principal": None}, "access.oidc[0].principal: is required"),
        ({"principal": "{sub}"}, "begin it with a word and a colon, such as ci:{sub}"),
        ({"principal": "user:{sub}"}, "such as ci:{sub}"),
        ({"principal": "robot:ci-{sub}"}, "such as ci:ci-{sub}"),
        ({"principal": "ci:{a}{b}"}, "with something between two of them"),
        ({"issuer": "issuer"}, "needs jwks, since its issuer is no URL of https"),
        ({"issuer": "http://issuer.example"}, "needs jwks, since its issuer is no URL of https"),
        ({"jwks": "keys.json"}, "must be an absolute path, or a URL of https, not 'keys.json'"),
        ({"jwks": "http://issuer.example/keys"}, "must be an absolute path, or a URL of https"),
        ({"jwks": "file:///keys"}, "must be an absolute path, or a URL of https"),
    ],
)
def test_an_issuer_that_proves_too_little_is_refused(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    changed = {key: value for key, value in (OIDC | change).items() if value is not None}
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, {"oidc": [changed]})
    assert told in str(caught.value)


def test_one_issuer_has_one_set_of_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has two different jwks for the issuer"):
        read(tmp_path, {"oidc": [OIDC, OIDC | {"jwks": "/keys.json"}]})


def test_our_own_tokens_are_not_those_of_another_issuer(tmp_path: Path) -> None:
    other = OIDC | {"issuer": "registry", "jwks": "/keys.json"}
    with pytest.raises(ConfigurationError, match="can't trust the issuer registry"):
        read(tmp_path, {"oidc": [other]})


def test_a_condition_can_be_set_by_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    document = {"version": 0.1, "storage": "inmemory", "access": {"oidc": [OIDC]}}
    path.write_text(yaml.safe_dump(document))
    access = load(path, {"REGISTRY_ACCESS_OIDC_0_CONDITIONS_REF": "refs/*"}).settings.access
    assert access is not None
    assert access.oidc[0].conditions["ref"] == ("refs/*",)


@pytest.mark.parametrize(
    "change",
    [
        {"jwks": "/keys.json", "issuer": "issuer"},
        {"jwks": "https://issuer.example/keys"},
        {"issuer": "http://127.0.0.1:8080"},
        {"principal": "robot:ci"},
        {"principal": "robot:ci:{repository}@{ref}", "groups": ["builds"]},
        {"conditions": {"repository": ["octo/a", "octo/b"], "run": 7}},
    ],
)
def test_an_issuer_can_be_trusted(tmp_path: Path, change: dict[str, Any]) -> None:
    access = read(tmp_path, {"oidc": [OIDC | change]}).access
    assert access is not None
    assert all(isinstance(one, tuple) for one in access.oidc[0].conditions.values())


RULE: dict[str, Any] = {"repositories": ["**"], "actions": ["pull"], "who": ["anonymous"]}
LONG = "a" * 256


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"repositories": ["a b"]}, "rules[0].repositories[0]: must be a repository's name"),
        ({"repositories": ["a//b"]}, "rules[0].repositories[0]: must be a repository's name"),
        ({"repositories": ["a**"]}, "rules[0].repositories[0]: must be a repository's name"),
        ({"repositories": [LONG]}, "at most 255 characters and 3 times **"),
        ({"repositories": ["**/a/**/b/**/c/**"]}, "at most 255 characters and 3 times **"),
        ({"actions": ["read"]}, "rules[0].actions[0]: must be one of "),
        ({"who": ["alice"]}, "rules[0].who[0]: must be anonymous, authenticated, user:NAME"),
        ({"who": ["user:"]}, "rules[0].who[0]: must be anonymous, authenticated, user:NAME"),
        ({"effect": "maybe"}, "rules[0].effect: "),
    ],
    ids=str,
)
def test_a_rule_that_means_nothing_is_refused(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, {"rules": [RULE | change]})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"repositories": ["*", "a/*-b/**", "**/c", "a.b/c__d"]},
        {"actions": ["*"]},
        {"who": ["authenticated", "user:a@b.c", "user:cert:a/b"]},
        {"effect": "deny"},
        {"effect": "allow"},
    ],
    ids=str,
)
def test_a_rule_that_means_something_is_taken(tmp_path: Path, change: dict[str, Any]) -> None:
    assert read(tmp_path, {"rules": [RULE | change]}).access is not None


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"robots": {"ci": {"hash": "secret"}}}, "access.robots.ci.hash: must be a bcrypt hash"),
        ({"token": {"realm": "/auth/token"}}, "access.token.realm: must be an absolute URL"),
        ({"token": {"realm": "ftp://a/b"}}, "access.token.realm: must be an absolute URL"),
        ({"token": {"lifetime": "30s"}}, "access.token.lifetime: must be from 1m to 1h"),
        ({"token": {"lifetime": "2h"}}, "access.token.lifetime: must be from 1m to 1h"),
    ],
    ids=str,
)
def test_what_can_not_be_in_the_section_is_refused_by_its_key(
    tmp_path: Path, section: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, section)
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_token_service_can_be_set_up(tmp_path: Path) -> None:
    section = {"realm": "https://a.example/auth/token", "lifetime": "10m", "service": "a"}
    access = read(tmp_path, {"token": section}).access
    assert access is not None
    assert (access.token.realm, access.token.service) == (section["realm"], "a")
    assert access.token.lifetime == timedelta(minutes=10)


def test_a_robot_needs_no_password_and_a_hash_is_not_shown(tmp_path: Path) -> None:
    hashed = "$2y$05$" + "a" * 53
    access = read(tmp_path, {"robots": {"ci": {}, "cd": {"hash": hashed}}}).access
    assert access is not None
    assert access.robots["ci"].hash is None
    assert hashed not in repr(access)
