"""The one place where a failure becomes a status and an OCI error code."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from dockyard import errors
from dockyard.auth import errors as refusals
from dockyard.http.messages import Headers, QueryInvalidError, Response
from dockyard.protocol.ranges import render_progress


MESSAGES: Final[Mapping[str, str]] = {
    "UNKNOWN": "unknown error",
    "UNSUPPORTED": "The operation is unsupported.",
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "UNAVAILABLE": "service unavailable",
    "TOOMANYREQUESTS": "too many requests",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "SIZE_INVALID": "provided length did not match content length",
    "RANGE_INVALID": "invalid content range",
    "NAME_INVALID": "invalid repository name",
    "TAG_INVALID": "manifest tag did not match URI",
    "NAME_UNKNOWN": "repository name not known to registry",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "MANIFEST_INVALID": "manifest invalid",
    "MANIFEST_UNVERIFIED": "manifest failed signature verification",
    "MANIFEST_BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
    "BLOB_UPLOAD_INVALID": "blob upload invalid",
    "PAGINATION_NUMBER_INVALID": "invalid number of results requested",
}
"""What each code says. Source: distribution v3.1.1, registry/api/v2/errors.go and errcode."""


def _nothing(_: Any) -> None:  # noqa: ANN401 -- whatever the failure
    return None


def _text(error: errors.RegistryError) -> str:
    return str(error)


def _damage_or(otherwise: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda error: str(error) if error.damage else otherwise(error)


@dataclass(frozen=True, slots=True)
class Failure:
    """How a failure is reported.

    Attributes:
        status: the response's status.
        code: the error code. Source: OCI Distribution Spec, spec.md#error-codes.
        detail: from the failure to the ``detail`` field; `None` leaves it out.
        says_why: whether ``message`` is the failure's own text. Docker shows no details, so where a
            person has to act on what it says, it is in the message.
    """

    status: int
    code: str
    detail: Callable[[Any], object] = _nothing
    says_why: bool = False


def _wanted(error: refusals.UnauthenticatedError | refusals.DeniedError) -> object:
    """Return what was asked for, as distribution tells it; for the base, a null that is shown."""
    if not error.wanted:
        return SHOWN_NULL
    return [
        {"Type": kind, "Class": "", "Name": name, "Action": action}
        for kind, name, action in error.wanted
    ]


SHOWN_NULL: Final = object()
"""A detail that is null in the answer; `None` leaves it out."""


def _reference_detail(error: errors.ManifestUnknownError) -> object:
    return f"unknown {'manifest' if ':' in error.reference else 'tag'}={error.reference}"


FAILURES: Final[Mapping[type[errors.RegistryError], Failure]] = {
    errors.InvalidError: Failure(HTTPStatus.BAD_REQUEST, "UNKNOWN", _text),
    errors.DigestInvalidError: Failure(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", _text),
    errors.DigestMissingError: Failure(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", _text),
    errors.DigestMismatchError: Failure(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", _text),
    errors.SizeMismatchError: Failure(HTTPStatus.BAD_REQUEST, "SIZE_INVALID", _text),
    errors.RangeInvalidError: Failure(
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "RANGE_INVALID", _text
    ),
    errors.NameInvalidError: Failure(HTTPStatus.BAD_REQUEST, "NAME_INVALID", _text),
    errors.PageSizeInvalidError: Failure(
        HTTPStatus.BAD_REQUEST, "PAGINATION_NUMBER_INVALID", lambda error: {"n": error.asked}
    ),
    errors.ManifestInvalidError: Failure(HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID", says_why=True),
    errors.ManifestTooLargeError: Failure(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "MANIFEST_INVALID", says_why=True
    ),
    errors.ManifestBlobsUnknownError: Failure(HTTPStatus.BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
    errors.TagInvalidError: Failure(HTTPStatus.BAD_REQUEST, "TAG_INVALID", _text),
    errors.TooManyTagsError: Failure(HTTPStatus.REQUEST_URI_TOO_LONG, "TAG_INVALID", says_why=True),
    QueryInvalidError: Failure(HTTPStatus.REQUEST_URI_TOO_LONG, "UNKNOWN", says_why=True),
    errors.RepositoryUnknownError: Failure(
        HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", lambda error: {"name": error.name}
    ),
    errors.BlobUnknownError: Failure(
        HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", _damage_or(lambda error: error.digest)
    ),
    errors.ManifestUnknownError: Failure(
        HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", _damage_or(_reference_detail)
    ),
    errors.ManifestUnacceptableError: Failure(
        HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", says_why=True
    ),
    errors.NoEarlierManifestError: Failure(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", says_why=True),
    errors.ItemUnknownError: Failure(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", says_why=True),
    errors.UploadUnknownError: Failure(HTTPStatus.NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
    errors.OffsetMismatchError: Failure(
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "RANGE_INVALID", _text
    ),
    errors.UploadBusyError: Failure(HTTPStatus.CONFLICT, "BLOB_UPLOAD_INVALID", _text),
    errors.TagMovedError: Failure(
        HTTPStatus.PRECONDITION_FAILED,
        "TAG_INVALID",
        lambda error: {"tag": error.tag, "current": error.current},
        says_why=True,
    ),
    errors.UnsupportedError: Failure(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED"),
    errors.ClassDeniedError: Failure(HTTPStatus.FORBIDDEN, "DENIED", says_why=True),
    refusals.UnauthenticatedError: Failure(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", _wanted),
    refusals.DeniedError: Failure(HTTPStatus.FORBIDDEN, "DENIED", _wanted),
    refusals.LoginRefusedError: Failure(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED"),
    refusals.TokenRefusedError: Failure(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED"),
    refusals.KeyOfKeyError: Failure(HTTPStatus.FORBIDDEN, "DENIED", says_why=True),
    refusals.KeyInvalidError: Failure(HTTPStatus.BAD_REQUEST, "UNKNOWN", says_why=True),
    refusals.KeyTakenError: Failure(HTTPStatus.CONFLICT, "UNKNOWN", says_why=True),
    refusals.KeyUnknownError: Failure(HTTPStatus.NOT_FOUND, "UNKNOWN", says_why=True),
    refusals.TooManyLoginsError: Failure(
        HTTPStatus.TOO_MANY_REQUESTS, "TOOMANYREQUESTS", says_why=True
    ),
    refusals.DirectoryUnavailableError: Failure(
        HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", says_why=True
    ),
    errors.StorageError: Failure(HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    errors.StorageFullError: Failure(
        HTTPStatus.INSUFFICIENT_STORAGE,
        "UNAVAILABLE",
        lambda _: "the registry's storage is full; push again once there is room",
    ),
}
"""How each failure is reported; a failure without a row of its own takes the row of its base."""


def failure_of(error: errors.RegistryError) -> Failure:
    """Return how to report `error`."""
    for cls in type(error).__mro__:
        if cls in FAILURES:
            return FAILURES[cls]
    return Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN")


def render(error: errors.RegistryError) -> Response:
    """Return the response that reports `error`, in the envelope of the spec."""
    failure = failure_of(error)
    if isinstance(error, errors.ManifestBlobsUnknownError):
        items = [_item(failure.code, None, digest) for digest in error.digests]
    else:
        message = str(error) if failure.says_why else None
        items = [_item(failure.code, message, failure.detail(error))]
    return Response(failure.status, _headers(error), _envelope(items))


def _item(code: str, message: str | None, detail: object) -> dict[str, object]:
    item: dict[str, object] = {"code": code, "message": message or MESSAGES[code]}
    if detail is not None:
        item["detail"] = None if detail is SHOWN_NULL else detail
    return item


def _envelope(items: list[dict[str, object]]) -> bytes:
    return (
        json.dumps({"errors": items}, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "replace"
        )
        + b"\n"
    )


def _headers(error: errors.RegistryError) -> Headers:
    headers = [(b"Content-Type", b"application/json")]
    if isinstance(error, errors.OffsetMismatchError):
        headers.append((b"Range", render_progress(error.expected).encode()))
    if isinstance(error, refusals.UnauthenticatedError):
        headers.append((b"Www-Authenticate", error.challenge.encode("latin-1", "replace")))
    if isinstance(error, refusals.TooManyLoginsError):
        headers.append((b"Retry-After", str(error.seconds).encode()))
    return headers
