import pytest
from hypothesis import given, strategies as st

from dockyard.auth.actions import Action
from dockyard.http.routes import ROUTES, Table


UUID = "0190a5b2-0000-7000-8000-000000000000"
TABLE = Table(ROUTES)


@pytest.mark.parametrize(
    ("path", "parameters", "methods"),
    [
        ("", {}, ["GET"]),
        ("_catalog", {}, ["GET"]),
        ("a/tags/list", {"name": "a"}, ["GET"]),
        ("a/b/tags/list", {"name": "a/b"}, ["GET"]),
        ("a/manifests/v1", {"name": "a", "reference": "v1"}, ["DELETE", "GET", "HEAD", "PUT"]),
        (
            "a/manifests/sha256:zz",
            {"name": "a", "reference": "sha256:zz"},
            ["DELETE", "GET", "HEAD", "PUT"],
        ),
        ("a/blobs/sha256:zz", {"name": "a", "digest": "sha256:zz"}, ["DELETE", "GET", "HEAD"]),
        ("a/blobs/uploads/", {"name": "a"}, ["POST"]),
        (
            f"a/blobs/uploads/{UUID}.5",
            {"name": "a", "upload": f"{UUID}.5"},
            ["DELETE", "GET", "HEAD", "PATCH", "PUT"],
        ),
        ("a/referrers/sha256:zz", {"name": "a", "digest": "sha256:zz"}, ["GET"]),
        ("a/referrers/nonsense", {"name": "a", "digest": "nonsense"}, ["GET"]),
        # Names that look like routes.
        ("tags/list/tags/list", {"name": "tags/list"}, ["GET"]),
        ("a/manifests/tags/list", {"name": "a/manifests"}, ["GET"]),
        ("a/blobs/uploads/tags/list", {"name": "a/blobs/uploads"}, ["GET"]),
        (
            "manifests/manifests/manifests",
            {"name": "manifests", "reference": "manifests"},
            ["DELETE", "GET", "HEAD", "PUT"],
        ),
        ("a/blobs/blobs/uploads/", {"name": "a/blobs"}, ["POST"]),
        ("Reg.example.com/a/tags/list", {"name": "Reg.example.com/a"}, ["GET"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_path_finds_its_routes(path: str, parameters: dict[str, str], methods: list[str]) -> None:
    match = TABLE.find(path)
    assert match is not None
    assert match.parameters == parameters
    assert sorted(match.methods) == methods


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "a/tags",
        "a/tags/list/",
        "a/tags/other",
        "tags/list",
        "a/manifests/",
        "a/manifests/-tag",
        "a/manifests/v1/",
        "a/blobs/",
        "a/blobs/uploads",
        "a/blobs/blobs/uploads",
        f"a/blobs/uploads/{UUID}/",
        "A/tags/list",
        "a/B/tags/list",
        "a//b/tags/list",
        "a/../b/tags/list",
        "/tags/list",
        "_catalog/",
        "a/_catalog",
        "a/referrers/",
        "a" * 256 + "/tags/list",
    ],
)
def test_a_path_without_routes(path: str) -> None:
    assert TABLE.find(path) is None


@given(
    st.text(alphabet="aA/_.-: ") | st.from_regex(r"(a|tags|list|blobs|uploads|/)*", fullmatch=True)
)
def test_any_path_can_be_looked_up(path: str) -> None:
    match = TABLE.find(path)
    assert match is None or path == "" or match.parameters["name"] in path


def test_methods_that_need_a_withheld_action_are_not_there() -> None:
    table = Table(ROUTES, withheld={Action.PUSH, Action.DELETE})
    for path, methods in (
        ("a/blobs/uploads/", []),
        ("a/manifests/v1", ["GET", "HEAD"]),
        (f"a/blobs/uploads/{UUID}", ["GET", "HEAD"]),
        ("a/blobs/sha256:zz", ["GET", "HEAD"]),
    ):
        match = table.find(path)
        assert match is not None
        assert sorted(match.methods) == methods
