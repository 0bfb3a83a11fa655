"""The section `access.ldap`."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from dockyard.config.access import AccessSettings
from dockyard.config.ldap import LdapSettings


GOOD = {
    "url": "ldaps://directory.example.org",
    "binddn": "cn=searcher,dc=example,dc=org",
    "bindpassword": "secret",
    "userbase": "ou=people,dc=example,dc=org",
}


@pytest.mark.parametrize(
    "over",
    [
        {},
        {"url": "ldap://directory.example.org", "starttls": True},
        {"url": "ldap://directory.example.org", "insecure": True},
        {"url": "ldap://127.0.0.1:3389"},
        {"url": "ldap://[::1]"},
        {"groupbase": "ou=groups,dc=x", "memberof": "memberOf"},
        {"groupbase": "ou=groups,dc=x", "groupfilter": "(memberUid={name})"},
    ],
)
def test_what_can_be(over: dict[str, object]) -> None:
    assert LdapSettings.model_validate({**GOOD, **over}).timeout.total_seconds() == 5


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"url": "ldap://directory.example.org"}, "in the clear"),
        ({"url": "ldap://localhost.example.org"}, "in the clear"),
        ({"url": "http://directory.example.org"}, "must be ldaps://HOST"),
        ({"url": "ldaps://directory.example.org/dc=x"}, "must be ldaps://HOST"),
        ({"url": "ldaps://a@b"}, "must be ldaps://HOST"),
        ({"url": "ldaps://a:b"}, "must be ldaps://HOST"),
        ({"starttls": True}, "starttls beside ldaps"),
        ({"bindpassword": ""}, "must not be empty"),
        ({"binddn": " "}, "must not be empty"),
        ({"userfilter": "(uid=alice)"}, "needs {login}"),
        ({"userfilter": "uid={login}"}, "parentheses"),
        ({"groupbase": "ou=groups,dc=x"}, "one of groupfilter and memberof"),
        ({"memberof": "memberOf"}, "needs for groups a groupbase"),
        ({"groupbase": "dc=x", "groupfilter": "(cn=all)"}, "else all have all groups"),
        ({"nameattribute": "uid)("}, "name of an attribute"),
        ({"groupprefix": "a:"}, "without spaces and colons"),
        ({"ca": "ca.crt"}, "absolute path"),
        ({"timeout": "31s"}, "at most 30s"),
    ],
)
def test_what_can_not_be(over: dict[str, object], told: str) -> None:
    timeout = {"timeout": timedelta(seconds=31)} if "timeout" in over else {}
    with pytest.raises(ValidationError, match=told):
        LdapSettings.model_validate({**GOOD, **over, **timeout})


def test_rules_may_name_groups_of_the_directory() -> None:
    rule = {"repositories": ["**"], "actions": ["*"], "who": ["group:ldap-admins"]}
    groups = {"groupbase": "dc=x", "memberof": "memberOf", "groupprefix": "ldap-"}
    AccessSettings.model_validate({"ldap": {**GOOD, **groups}, "rules": [rule]})
    with pytest.raises(ValidationError, match="no such group"):
        AccessSettings.model_validate({"ldap": GOOD, "rules": [rule]})
    rule["who"] = ["group:admins"]
    with pytest.raises(ValidationError, match="no such group"):
        AccessSettings.model_validate({"ldap": {**GOOD, **groups}, "rules": [rule]})


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(LdapSettings.model_validate(GOOD))
