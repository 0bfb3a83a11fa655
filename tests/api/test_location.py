"""Addresses in answers: `http.host`, `http.relativeurls`, proxies in front."""

import pytest

from tests.api.registry import MakeRegistry, Registry
from tests.parts.images import digest_of, index


TOP = index([])
DIGEST = digest_of(b"x")


async def locations(registry: Registry, headers: dict[str, str]) -> list[str]:
    """Return the base of every kind of `Location`."""
    begin = await registry.send("POST", "v2/a/blobs/uploads/", headers=headers)
    answers = [
        (begin, "v2/a/blobs/uploads/"),
        (await registry.send("PATCH", begin.location, b"x", headers), "v2/a/blobs/uploads/"),
        (
            await registry.send("POST", f"v2/a/blobs/uploads/?digest={DIGEST}", b"x", headers),
            f"v2/a/blobs/{DIGEST}",
        ),
        (
            await registry.send("PUT", "v2/a/manifests/v1", TOP.manifest.body, headers),
            f"v2/a/manifests/{TOP.digest}",
        ),
    ]
    for answer, path in answers:
        assert path in answer.location
    return [answer.location.partition("v2/a/")[0] for answer, _ in answers]


@pytest.mark.parametrize(
    ("settings", "headers", "base"),
    [
        pytest.param({}, {"host": "reg:5000"}, "http://reg:5000/", id="request"),
        pytest.param({}, {"host": ""}, "/", id="no-host"),
        pytest.param({}, {"host": "a b"}, "/", id="host-that-is-none"),
        pytest.param(
            {},
            {"x-forwarded-proto": "https", "x-forwarded-host": "outside"},
            "https://outside/",
            id="x-forwarded",
        ),
        pytest.param(
            {},
            {"forwarded": "proto=https;host=outside", "x-forwarded-host": "no"},
            "https://outside/",
            id="forwarded",
        ),
        pytest.param(
            {"host": "https://fixed.example"}, {"host": "a"}, "https://fixed.example/", id="host"
        ),
        pytest.param(
            {"host": "https://fixed.example/"},
            {"x-forwarded-host": "no"},
            "https://fixed.example/",
            id="host-with-slash",
        ),
        pytest.param({"relative_urls": True}, {"host": "a"}, "/", id="relative"),
        pytest.param(
            {"relative_urls": True, "host": "https://fixed.example"}, {}, "/", id="relative-first"
        ),
        pytest.param(
            {"prefix": "/p/", "host": "https://fixed.example"},
            {},
            "https://fixed.example/p/",
            id="prefix",
        ),
        pytest.param({"prefix": "/p/", "relative_urls": True}, {}, "/p/", id="relative-prefix"),
    ],
)
async def test_where_the_client_is_sent(
    make: MakeRegistry, settings: dict[str, object], headers: dict[str, str], base: str
) -> None:
    assert set(await locations(make(**settings), headers)) == {base}
