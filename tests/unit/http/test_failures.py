import json
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from dockyard import errors
from dockyard.core.links import LinkDamagedError
from dockyard.errors import RegistryError
from dockyard.http.failures import FAILURES, MESSAGES, failure_of, render
from dockyard.http.messages import QueryInvalidError


DIGEST = "sha256:" + "a" * 64
DESCRIBED = (
    *("UNKNOWN", "UNSUPPORTED", "UNAUTHORIZED", "DENIED", "UNAVAILABLE", "TOOMANYREQUESTS"),
    *("DIGEST_INVALID", "SIZE_INVALID", "RANGE_INVALID", "NAME_INVALID", "TAG_INVALID"),
    *("NAME_UNKNOWN", "MANIFEST_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNVERIFIED"),
    *("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"),
    "PAGINATION_NUMBER_INVALID",
)
"""Source: distribution v3.1.1, registry/api/v2/errors.go and errcode/register.go."""


def kinds(kind: type[RegistryError]) -> Iterator[type[RegistryError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("dockyard."):
            yield child
            yield from kinds(child)


INNER = {
    errors.InvalidError,
    errors.UnknownError,
    errors.ConflictError,
    errors.RefusedError,
}
"""Kinds that are never raised themselves: each of theirs says what happened."""

RAISED = sorted(set(kinds(RegistryError)) - INNER, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_every_error_can_be_reported(kind: type[RegistryError]) -> None:
    failure = failure_of(kind.__new__(kind))
    assert failure.code in MESSAGES
    assert any(base in FAILURES for base in kind.__mro__)
    assert failure.status in set(HTTPStatus)
    assert failure.status >= 400


def test_the_codes_are_distributions() -> None:
    assert tuple(MESSAGES) == DESCRIBED


def test_a_failure_of_no_kind_is_ours() -> None:
    failure = failure_of(RegistryError("?"))
    assert (failure.status, failure.code) == (500, "UNKNOWN")


@pytest.mark.parametrize(
    ("error", "status", "item"),
    [
        pytest.param(
            errors.PageSizeInvalidError("abc"),
            400,
            {
                "code": "PAGINATION_NUMBER_INVALID",
                "message": "invalid number of results requested",
                "detail": {"n": "abc"},
            },
            id="page-size",
        ),
        pytest.param(
            errors.RepositoryUnknownError("a/b"),
            404,
            {
                "code": "NAME_UNKNOWN",
                "message": "repository name not known to registry",
                "detail": {"name": "a/b"},
            },
            id="repository",
        ),
        pytest.param(
            errors.BlobUnknownError(DIGEST),
            404,
            {
                "code": "BLOB_UNKNOWN",
                "message": "blob unknown to registry",
                "detail": DIGEST,
            },
            id="blob",
        ),
        pytest.param(
            errors.BlobUnknownError(DIGEST, damage="half is gone"),
            404,
            {
                "code": "BLOB_UNKNOWN",
                "message": "blob unknown to registry",
                "detail": f"blob {DIGEST}: half is gone",
            },
            id="damaged-blob",
        ),
        pytest.param(
            errors.ManifestUnknownError("v1"),
            404,
            {
                "code": "MANIFEST_UNKNOWN",
                "message": "manifest unknown",
                "detail": "unknown tag=v1",
            },
            id="tag",
        ),
        pytest.param(
            errors.ManifestUnknownError(DIGEST),
            404,
            {
                "code": "MANIFEST_UNKNOWN",
                "message": "manifest unknown",
                "detail": f"unknown manifest={DIGEST}",
            },
            id="manifest",
        ),
        pytest.param(
            errors.ManifestInvalidError("do this"),
            400,
            {"code": "MANIFEST_INVALID", "message": "do this"},
            id="says-why",
        ),
        pytest.param(
            errors.UnsupportedError(),
            405,
            {"code": "UNSUPPORTED", "message": "The operation is unsupported."},
            id="no-detail",
        ),
        pytest.param(
            errors.StorageFullError("x"),
            507,
            {
                "code": "UNAVAILABLE",
                "message": "service unavailable",
                "detail": "the registry's storage is full; push again once there is room",
            },
            id="full",
        ),
        pytest.param(
            LinkDamagedError("secret/path"),
            503,
            {"code": "UNAVAILABLE", "message": "service unavailable"},
            id="row-of-the-base",
        ),
        pytest.param(
            QueryInvalidError("too many fields"),
            414,
            {"code": "UNKNOWN", "message": "too many fields"},
            id="query",
        ),
        pytest.param(
            errors.TagMovedError("v1", current=None),
            412,
            {
                "code": "TAG_INVALID",
                "message": "tag v1 points to nothing",
                "detail": {"tag": "v1", "current": None},
            },
            id="tag-moved",
        ),
    ],
)
def test_the_envelope(error: RegistryError, status: int, item: dict[str, object]) -> None:
    response = render(error)
    assert response.status == status
    assert (b"Content-Type", b"application/json") in response.headers
    assert response.body.endswith(b"\n")
    assert json.loads(response.body) == {"errors": [item]}


def test_each_missing_blob_is_an_error_of_its_own() -> None:
    response = render(errors.ManifestBlobsUnknownError(["sha256:a", "sha256:b"]))
    assert [item["detail"] for item in json.loads(response.body)["errors"]] == [
        "sha256:a",
        "sha256:b",
    ]


def test_a_chunk_out_of_order_is_told_where_to_go_on() -> None:
    response = render(errors.OffsetMismatchError(expected=10, received=0))
    assert dict(response.headers)[b"Range"] == b"0-9"


def test_text_that_is_no_unicode_can_be_reported() -> None:
    response = render(errors.BlobUnknownError("\udcff"))
    assert json.loads(response.body)["errors"][0]["detail"] == "?"
