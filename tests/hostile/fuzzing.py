"""What the fuzzers draw from: requests that are nearly right, or not at all."""

import os
from typing import Final

from hypothesis import HealthCheck, settings, strategies as st

from tests.hostile.conftest import KEPT
from tests.parts.images import OCI_INDEX, OCI_MANIFEST


IN_CI: Final = os.environ.get("CI") == "true"

FACTOR: Final = int(os.environ.get("DOCKYARD_TEST_FUZZ", "1"))
"""How many times the usual number of examples to try: 20 for an hour's search."""


def bounded(examples: int) -> settings:
    """Return settings for `examples` examples; the same ones each time in CI."""
    return settings(
        max_examples=examples * FACTOR,
        deadline=None,
        derandomize=IN_CI,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


FUZZED: Final = "hostile/fuzzed"
"""A repository with the image `KEPT` that a fuzzer may well delete."""

DIGESTS: Final = (KEPT.digest, KEPT.blobs[0].digest, "sha256:" + "0" * 64, "sha512:" + "0" * 128)

pieces = st.sampled_from(
    [
        "v2",
        FUZZED,
        "hostile",
        "a",
        "_catalog",
        "tags",
        "list",
        "manifests",
        "blobs",
        "uploads",
        "referrers",
        "v1",
        "latest",
        "..",
        ".",
        "",
        "%2e%2e",
        "%2f",
        "%00",
        "%0d%0a",
        "%ff",
        "%c0%ae",
        "_layers",
        "link",
        "~",
        "\\",
        ";",
        "A",
        "x" * 130,
        "a" * 256,
        "00000000-0000-0000-0000-000000000000",
        "00000000-0000-0000-0000-000000000000.5.sha512",
        *DIGESTS,
    ]
)
"""Components of paths: those of the API, and those of whoever wants to get out of it."""

visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12)

raw_paths = st.one_of(
    st.lists(pieces | visible, max_size=8).map(lambda parts: "/" + "/".join(parts)),
    st.tuples(
        st.sampled_from([FUZZED, "hostile/new", "a", "../x", "a//b"]),
        st.sampled_from(
            ["tags/list", "manifests/v1", "blobs/uploads/", "manifests/new", "referrers/x"]
            + [
                f"{kind}/{digest}"
                for kind in ("manifests", "blobs", "referrers")
                for digest in DIGESTS
            ]
        ),
    ).map(lambda pair: f"/v2/{pair[0]}/{pair[1]}"),
)

fields_of_queries = st.sampled_from(
    ["n", "last", "digest", "mount", "from", "tag", "artifactType", "digest-algorithm", "x", ""]
)
values_of_queries = st.one_of(
    visible,
    st.sampled_from(
        [*DIGESTS, FUZZED, "0", "-1", "1e9", "9" * 30, "%00", "%0d%0a", "%ff", "sha512", ".."]
    ),
)
queries = st.lists(st.tuples(fields_of_queries, values_of_queries).map("=".join), max_size=6).map(
    "&".join
)

methods = st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"])

header_names = st.sampled_from(
    [
        "range",
        "content-range",
        "if-match",
        "if-none-match",
        "if-range",
        "accept",
        "content-type",
        "x-forwarded-host",
        "x-forwarded-proto",
        "forwarded",
        "x-forwarded-for",
        "authorization",
        "x-request-id",
        "connection",
        "user-agent",
        "referer",
    ]
)
header_values = st.one_of(
    st.text(
        st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"),
        max_size=20,
    ),
    st.sampled_from(
        [
            OCI_MANIFEST,
            OCI_INDEX,
            "*/*",
            "bytes=0-5",
            "bytes=5-0",
            "bytes=-1",
            "0-5",
            "5-0",
            "*",
            "bytes=0-1,3-4",
            f'"{KEPT.digest}"',
            "host=a;proto=b",
            "close",
            "a/b;q=x",
        ]
    ),
)
headers = st.lists(st.tuples(header_names, header_values), max_size=4)

FIELDS: Final = (
    *("schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "digest", "size"),
    *("annotations", "artifactType", "urls", "platform", "os", "x"),
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([OCI_MANIFEST, OCI_INDEX, *DIGESTS]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
"""JSON whose names are those of manifests and whose values are anything."""
