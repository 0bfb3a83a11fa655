import base64

import pytest
from hypothesis import given, strategies as st

from dockyard.protocol.challenge import (
    Basic,
    Bearer,
    Scope,
    group,
    parse_authorization,
    parse_scope,
    parse_scopes,
    quote,
    render_basic,
    render_bearer,
)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_challenges_are_distributions() -> None:
    assert render_basic("basic-realm") == 'Basic realm="basic-realm"'
    scopes = group([("repository", "a/b", "pull"), ("repository", "a/b", "push")])
    assert render_bearer("http://r/t", "s", scopes, "invalid_token") == (
        'Bearer realm="http://r/t",service="s",scope="repository:a/b:pull,push",'
        'error="invalid_token"'
    )


@given(st.text())
def test_nothing_in_a_realm_ends_the_header_or_the_text(text: str) -> None:
    quoted = quote(text)
    assert not set("\r\n\0") & set(quoted)
    inner = quoted[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inner
    quoted.encode("latin-1")


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("repository:a/b:pull,push", Scope("repository", "a/b", ("pull", "push"))),
        ("repository(plugin):a:pull", Scope("repository", "a", ("pull",), "plugin")),
        ("registry:catalog:*", Scope("registry", "catalog", ("*",))),
        ("repository:h:5000/a:pull", Scope("repository", "h:5000/a", ("pull",))),
        ("repository:a:", Scope("repository", "a", ())),
        ("repository:a", None),
        ("repository:a:PULL", None),
        ("", None),
        ("repository:" + "a" * 600 + ":pull", None),
    ],
)
def test_scopes_are_read_and_written(text: str, scope: Scope | None) -> None:
    assert parse_scope(text) == scope
    if scope is not None:
        assert scope.render() == text


def test_scopes_may_share_a_text_and_are_bounded() -> None:
    assert len(parse_scopes(["repository:a:pull repository:b:push", "nonsense"])) == 2
    assert len(parse_scopes(["repository:a:pull " * 1000])) == 100


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        (None, None),
        ("", None),
        (basic("alice:a:b"), Basic("alice", "a:b")),
        (basic("alice:").replace("Basic", "bASIC"), Basic("alice", "")),
        (basic(":"), None),
        (basic("alice"), None),
        ("Basic !!!", None),
        ("Bearer abc", Bearer("abc")),
        ("Bearer", None),
        ("Digest abc", None),
    ],
)
def test_credentials_are_read(header: str | None, credentials: Basic | Bearer | None) -> None:
    assert parse_authorization(header) == credentials


def test_secrets_are_not_shown() -> None:
    assert "abc" not in repr(Bearer("abc")) + repr(Basic("x", "abc"))
