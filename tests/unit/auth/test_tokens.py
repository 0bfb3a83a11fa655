from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, strategies as st
from joserfc.jwk import ECKey, OctKey, RSAKey

from dockyard.auth.actions import Access
from dockyard.auth.errors import TokenRefusedError
from dockyard.auth.keys import TrustedKeys, libtrust_id, load
from dockyard.auth.tokens import (
    GRANTS_LIMIT,
    Claims,
    Expected,
    TokenMalformedError,
    TokenUnfitError,
    TokenUntrustedError,
    verify,
)
from dockyard.config.auth import SIGNING_ALGORITHMS
from tests.unit.auth.signed import NOW, certificate, claims, encode, pem, sign, x5c


PRIVATE = rsa.generate_private_key(65537, 2048)
ROOT = certificate("root", PRIVATE)
RSA = RSAKey.import_key(PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
OTHER = ECKey.generate_key("P-256")
SECRET = OctKey.generate_key(256)
EXPECTED = Expected(issuer="issuer", audience="service", algorithms=SIGNING_ALGORITHMS)
PUBLIC_PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> TrustedKeys:
    path = tmp_path_factory.mktemp("keys") / "root.pem"
    path.write_bytes(pem(ROOT))
    loaded = load(str(path), None)
    return TrustedKeys({**loaded.by_name, "secret": SECRET}, loaded.roots)


def check(token: str, keys: TrustedKeys) -> Claims:
    return verify(token, EXPECTED, lambda _: keys, lambda: NOW)


def rs256(**more: object) -> dict[str, Any]:
    return {"alg": "RS256", "typ": "JWT", "kid": RSA.thumbprint(), **more}


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(rs256(), id="thumbprint"),
        pytest.param(rs256(kid=libtrust_id(ROOT)), id="libtrust"),
        pytest.param(rs256(kid=..., x5c=x5c(ROOT)), id="x5c"),
        pytest.param(rs256(kid=..., jwk=RSA.as_dict(private=False)), id="jwk"),
        pytest.param(rs256(alg="PS512"), id="ps512"),
    ],
)
def test_a_token_of_a_trusted_key_is_good(header: dict[str, Any], keys: TrustedKeys) -> None:
    named = {key: value for key, value in header.items() if value is not ...}
    found = check(sign(RSA, named, claims()), keys)
    assert found.subject == "alice"
    assert found.grants == {
        Access("repository", "a/b", "pull"),
        Access("repository", "a/b", "push"),
    }


def test_a_chain_that_leads_to_a_root_is_good(keys: TrustedKeys) -> None:
    middle, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    between = certificate("between", middle, (ROOT, PRIVATE))
    last = certificate("leaf", leaf, (between, middle), authority=False)
    key = ECKey.import_key(leaf.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    token = sign(key, {"alg": "ES256", "x5c": x5c(last, between)}, claims())
    assert check(token, keys).subject == "alice"


def test_a_secret_of_the_jwks_verifies_an_hmac(keys: TrustedKeys) -> None:
    assert check(sign(SECRET, {"alg": "HS256", "kid": "secret"}, claims()), keys).subject


def _foreign_chain() -> str:
    private = ec.generate_private_key(ec.SECP256R1())
    alone = certificate("root", private)
    key = ECKey.import_key(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return sign(key, {"alg": "ES256", "x5c": x5c(alone), "kid": RSA.thumbprint()}, claims())


def _confused() -> str:
    """Sign with the public key as the secret of an HMAC: what a library that trusts alg accepts."""
    import hashlib  # noqa: PLC0415
    import hmac  # noqa: PLC0415

    signed = f"{encode(rs256(alg='HS256'))}.{encode(claims())}"
    return f"{signed}.{encode(hmac.new(PUBLIC_PEM, signed.encode(), hashlib.sha256).digest())}"


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(f"{encode(rs256(alg='none'))}.{encode(claims())}.", id="none"),
        pytest.param(_confused(), id="algorithm-confusion"),
        pytest.param(sign(OTHER, {"alg": "ES256", "kid": RSA.thumbprint()}, claims()), id="kind"),
        pytest.param(sign(OTHER, {"alg": "ES256", "kid": "unknown"}, claims()), id="kid"),
        pytest.param(sign(OTHER, {"alg": "ES256"}, claims()), id="no-key"),
        pytest.param(
            sign(OTHER, {"alg": "ES256", "jwk": OTHER.as_dict(private=False)}, claims()),
            id="its-own-key",
        ),
        pytest.param(
            sign(
                OTHER,
                {"alg": "ES256", "jwk": OTHER.as_dict(private=False) | {"kid": RSA.thumbprint()}},
                claims(),
            ),
            id="its-own-key-under-a-trusted-name",
        ),
        pytest.param(_foreign_chain(), id="foreign-chain"),
        pytest.param(sign(RSA, rs256(), claims())[:-6] + "AAAAAA", id="signature"),
    ],
)
def test_a_token_that_nobody_trusted_signed_is_refused(token: str, keys: TrustedKeys) -> None:
    with pytest.raises(TokenUntrustedError):
        check(token, keys)


@pytest.mark.parametrize(
    "over",
    [
        {"iss": "other"},
        {"iss": ...},
        {"aud": "other"},
        {"aud": ["other", "others"]},
        {"aud": ...},
        {"exp": int(NOW.timestamp()) - 61},
        {"exp": ...},
        {"nbf": int(NOW.timestamp()) + 61},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_us_or_now_is_refused(
    over: dict[str, Any], keys: TrustedKeys
) -> None:
    with pytest.raises(TokenUnfitError):
        check(sign(RSA, rs256(), claims(**over)), keys)


@pytest.mark.parametrize(
    "over",
    [
        {"aud": ["other", "service"]},
        {"exp": int(NOW.timestamp()) - 60},
        {"nbf": int(NOW.timestamp()) + 60},
        {"nbf": ...},
        {"access": None},
        {"exp": 1 << 62},
    ],
    ids=str,
)
def test_what_distribution_allows_is_allowed(over: dict[str, Any], keys: TrustedKeys) -> None:
    assert check(sign(RSA, rs256(), claims(**over)), keys).subject


@pytest.mark.parametrize(
    "over",
    [{"exp": "1"}, {"exp": 1.5}, {"exp": True}, {"aud": 1}, {"sub": 1},
     {"access": 1}, {"access": [1]}, {"access": [{"actions": "pull"}]}],
    ids=str,
)  # fmt: skip
def test_claims_of_the_wrong_type_are_refused(over: dict[str, Any], keys: TrustedKeys) -> None:
    with pytest.raises(TokenMalformedError):
        check(sign(RSA, rs256(), claims(**over)), keys)


def test_a_token_that_grants_too_much_is_refused(keys: TrustedKeys) -> None:
    actions = [str(number) for number in range(GRANTS_LIMIT)]
    many = [{"type": "repository", "name": "a", "actions": actions}]
    assert check(sign(RSA, rs256(), claims(access=many)), keys).subject
    more = [*many, {"type": "repository", "name": "b", "actions": ["pull"]}]
    with pytest.raises(TokenMalformedError, match=f"more than {GRANTS_LIMIT}"):
        check(sign(RSA, rs256(), claims(access=more)), keys)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"x5c": "AA"}, "x5c is not a list"),
        ({"x5c": [1]}, "x5c is not a list"),
        ({"x5c": ["?"]}, "x5c is not base64"),
        ({"jwk": "AA"}, "jwk is not an object"),
        ({"jwk": {"x5c": "AA"}}, "x5c is not a list"),
        ({"jwk": {"kty": "magic"}}, "jwk is not a key"),
    ],
    ids=str,
)
def test_a_header_of_the_wrong_form_is_refused(
    header: dict[str, Any], reason: str, keys: TrustedKeys
) -> None:
    with pytest.raises(TokenMalformedError, match=reason):
        check(sign(RSA, rs256(**header), claims()), keys)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(b"no", "not JSON"), (b"[]", "not a JSON object"), (b"\xff", "not JSON")],
)
def test_a_payload_that_is_no_object_is_refused(
    payload: bytes, reason: str, keys: TrustedKeys
) -> None:
    with pytest.raises(TokenMalformedError, match=reason):
        check(sign(RSA, rs256(), payload), keys)


@pytest.mark.parametrize("part", ["AA==", "A+", "A/", "é", "A"])
def test_what_is_not_base64url_is_refused(part: str, keys: TrustedKeys) -> None:
    with pytest.raises(TokenMalformedError, match="not base64url"):
        check(f"{encode(rs256())}.e30.{part}", keys)


def test_an_algorithm_that_nobody_knows_is_refused_even_if_it_is_allowed(keys: TrustedKeys) -> None:
    expected = Expected(issuer="issuer", audience="service", algorithms=("XS256",))
    token = f"{encode(rs256(alg='XS256'))}.{encode(claims())}.AA"
    with pytest.raises(TokenUntrustedError, match="not known"):
        verify(token, expected, lambda _: keys, lambda: NOW)


@pytest.mark.parametrize("extension", [{"crit": ["exp"]}, {"b64": False}], ids=str)
def test_an_extension_is_refused(extension: dict[str, Any], keys: TrustedKeys) -> None:
    with pytest.raises(TokenMalformedError):
        check(sign(RSA, rs256(**extension), claims()), keys)


@given(
    st.one_of(
        st.text(),
        st.tuples(st.binary(), st.binary(), st.binary()).map(
            lambda parts: ".".join(encode(part) for part in parts)
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(["x5c", "jwk", "kid", "kty"]), inner)
            ),
        ).map(lambda value: f"{encode({'alg': 'RS256', 'x5c': value, 'jwk': value})}.e30.AA"),
    )
)
def test_whatever_arrives_is_refused_by_name(text: str) -> None:
    with pytest.raises(TokenRefusedError):
        verify(text, EXPECTED, lambda _: TrustedKeys({}), lambda: NOW)


def test_a_deep_nest_is_refused(keys: TrustedKeys) -> None:
    with pytest.raises(TokenMalformedError):
        check(f"{encode(b'[' * 9000)}.e30.AA", keys)


def test_a_jwks_is_read(tmp_path: Path) -> None:
    path = tmp_path / "jwks"
    path.write_bytes(b'{"keys": [%s]}' % encode_jwk())
    assert set(load(None, str(path)).by_name) == {"mine"}


def encode_jwk() -> bytes:
    import json  # noqa: PLC0415

    return json.dumps(OTHER.as_dict(private=False) | {"kid": "mine"}).encode()
