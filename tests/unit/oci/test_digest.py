import hashlib

import pytest
from hypothesis import given, strategies as st

from dockyard.errors import DigestInvalidError
from dockyard.oci.digest import HEX_LENGTH, Digest, Hasher


ALGORITHMS = st.sampled_from(sorted(HEX_LENGTH))


@given(st.binary(), ALGORITHMS)
def test_text_form_round_trips(content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    assert Digest.parse(str(digest)) == digest


@given(st.binary(), ALGORITHMS)
def test_a_digest_is_the_hash_of_the_bytes(content: bytes, algorithm: str) -> None:
    expected = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    assert str(Digest.of(content, algorithm)) == expected


def test_sha256_is_the_default() -> None:
    assert Digest.of(b"").algorithm == "sha256"


@given(st.lists(st.binary()), ALGORITHMS)
def test_a_hasher_of_pieces_gives_the_digest_of_the_whole(
    pieces: list[bytes], algorithm: str
) -> None:
    hasher = Hasher(algorithm)
    for piece in pieces:
        hasher.update(piece)
    assert hasher.digest() == Digest.of(b"".join(pieces), algorithm)
    assert hasher.size == sum(map(len, pieces))


@pytest.mark.parametrize("algorithm", ["", "md5", "SHA256", "sha384", "shake_128"])
def test_a_hasher_refuses_what_we_do_not_verify(algorithm: str) -> None:
    with pytest.raises(DigestInvalidError):
        Hasher(algorithm)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("sha256:", id="no-hash"),
        pytest.param("sha256", id="no-colon"),
        pytest.param("sha256:" + "a" * 63, id="too-short"),
        pytest.param("sha256:" + "a" * 65, id="too-long"),
        pytest.param("sha256:" + "a" * 128, id="length-of-sha512"),
        pytest.param("sha512:" + "a" * 64, id="length-of-sha256"),
        pytest.param("sha256:" + "A" * 64, id="upper-case"),
        pytest.param("SHA256:" + "a" * 64, id="upper-case-algorithm"),
        pytest.param("sha256:" + "g" * 64, id="not-hexadecimal"),
        pytest.param("sha256:" + "\u0661" * 64, id="foreign-digits"),
        pytest.param("md5:" + "a" * 32, id="weak-algorithm"),
        pytest.param("sha384:" + "a" * 96, id="unknown-algorithm"),
        pytest.param("sha256:" + "a" * 64 + "\n", id="trailing-newline"),
        pytest.param(" sha256:" + "a" * 64, id="leading-space"),
        pytest.param("sha256:../../../etc/passwd", id="path-traversal"),
        pytest.param("sha256:" + "a" * 63 + "\0", id="nul"),
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(DigestInvalidError) as caught:
        Digest.parse(text)
    assert caught.value.text == text


@given(st.text())
def test_parse_fails_only_as_stated(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except DigestInvalidError:
        return
    assert str(digest) == text
