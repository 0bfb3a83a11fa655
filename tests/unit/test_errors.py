import re
from collections.abc import Iterator

import pytest

from dockyard import errors
from dockyard.errors import RegistryError


DIGEST = "sha256:aa"
OTHER = "sha256:bb"


def tree(kind: type[RegistryError], depth: int = 0) -> Iterator[tuple[int, str]]:
    yield depth, kind.__name__
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child, depth + 1)


def drawn() -> Iterator[tuple[int, str]]:
    """Yield the depth and name of each class in the tree that the module's docstring draws."""
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ([│├└─ ]*)(\w+Error)\b", line):
            yield len(match[1]) // 4, match[2]


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    assert list(drawn()) == list(tree(RegistryError))


@pytest.mark.parametrize(
    ("error", "text", "facts"),
    [
        (
            errors.DigestInvalidError("md5:1"),
            "not a verifiable digest: 'md5:1'; expected sha256: or sha512: and its hexadecimals",
            {"text": "md5:1"},
        ),
        (
            errors.DigestMismatchError(expected=DIGEST, computed=OTHER),
            f"promised {DIGEST}, received {OTHER}",
            {"expected": DIGEST, "computed": OTHER},
        ),
        (
            errors.SizeMismatchError(expected=10, received=5),
            "promised 10 bytes, received 5",
            {"expected": 10, "received": 5},
        ),
        (
            errors.RangeInvalidError("x"),
            "not a byte range: 'x'; expected first-last",
            {"text": "x"},
        ),
        (errors.NameInvalidError("A"), "not a repository name: 'A'", {"text": "A"}),
        (errors.PageSizeInvalidError(5000), "not a page size: 5000", {"asked": 5000}),
        (
            errors.ManifestTooLargeError(9),
            "a manifest may have at most 9 bytes",
            {"limit": 9},
        ),
        (
            errors.ManifestBlobsUnknownError([DIGEST, OTHER]),
            f"not in this repository: {DIGEST}, {OTHER}",
            {"digests": (DIGEST, OTHER)},
        ),
        (errors.TagInvalidError("-"), "not a tag: '-'", {"text": "-"}),
        (errors.TooManyTagsError(3), "a request may name at most 3 tags", {"limit": 3}),
        (errors.RepositoryUnknownError("a/b"), "no repository a/b", {"name": "a/b"}),
        (
            errors.BlobUnknownError(DIGEST),
            f"blob {DIGEST}: not here",
            {"digest": DIGEST, "damage": None},
        ),
        (
            errors.BlobUnknownError(DIGEST, damage="half of it is gone"),
            f"blob {DIGEST}: half of it is gone",
            {"damage": "half of it is gone"},
        ),
        (
            errors.ManifestUnknownError("v1"),
            "manifest v1: not here",
            {"reference": "v1", "damage": None},
        ),
        (errors.UploadUnknownError("u"), "no upload u", {"upload": "u"}),
        (
            errors.OffsetMismatchError(expected=10, received=5),
            "chunk starts at byte 5, upload ends at byte 10",
            {"expected": 10, "received": 5},
        ),
        (
            errors.UploadBusyError("u"),
            "another request is writing to upload u",
            {"upload": "u"},
        ),
        (
            errors.TagMovedError("v1", current=DIGEST),
            f"tag v1 points to {DIGEST}",
            {"tag": "v1", "current": DIGEST},
        ),
        (errors.TagMovedError("v1", current=None), "tag v1 points to nothing", {"current": None}),
        (
            errors.ClassDeniedError("plugin"),
            "this registry takes no content of class 'plugin'",
            {"kind": "plugin"},
        ),
        (errors.PathUnknownError("a/b"), "nothing at a/b", {"path": "a/b"}),
        (errors.StorageBusyError("a/b"), "a/b is in use", {"path": "a/b"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_says_what_happened_and_carries_the_facts(
    error: RegistryError, text: str, facts: dict[str, object]
) -> None:
    assert str(error) == text
    assert {name: getattr(error, name) for name in facts} == facts
