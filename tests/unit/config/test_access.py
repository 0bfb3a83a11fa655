"""The section ``access``: who is vouched for by others."""

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
