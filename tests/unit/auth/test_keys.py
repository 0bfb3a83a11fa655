"""The keys that tokens may be signed with: which files are taken, and what is said of others."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from dockyard.auth.keys import (
    CHAIN_LIMIT,
    KEY_FILE_LIMIT,
    ChainInvalidError,
    KeysInvalidError,
    TrustedKeys,
    import_jwk,
    load,
)
from tests.unit.auth.signed import NOW, certificate, pem


EC = ec.generate_private_key(ec.SECP256R1())
ROOT = certificate("root", EC)


def edwards(key: ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) -> x509.Certificate:
    """Return a certificate of a key by itself, which hashes in its own way."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edwards")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    until = NOW + timedelta(days=1)
    return builder.not_valid_before(NOW).not_valid_after(until).sign(key, None)


def der(*certificates: x509.Certificate) -> list[bytes]:
    return [each.public_bytes(Encoding.DER) for each in certificates]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.mark.parametrize(
    ("root", "kind"),
    [
        pytest.param(ROOT, "EC", id="ec"),
        pytest.param(edwards(ed25519.Ed25519PrivateKey.generate()), "OKP", id="ed25519"),
    ],
)
def test_a_certificate_gives_one_key_by_two_names(
    file: Path, root: x509.Certificate, kind: str
) -> None:
    file.write_bytes(pem(root))
    keys = load(str(file), None)
    assert {key.key_type for key in keys.by_name.values()} == {kind}
    assert len(keys.by_name) == 2
    assert keys.of_chain(der(root), NOW).key_type == kind


def test_a_key_that_signs_no_tokens_is_refused_by_its_kind(file: Path) -> None:
    file.write_bytes(pem(edwards(ed448.Ed448PrivateKey.generate())))
    with pytest.raises(KeysInvalidError, match=f"rootcertbundle: {file}: no key .* Ed448"):
        load(str(file), None)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_has_no_certificate_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(KeysInvalidError, match=f"rootcertbundle: {file}: "):
        load(str(file), None)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "Expecting value"),
        ("[]", "indices must be"),
        ("{}", "keys"),
        ('{"keys": 1}', "not iterable"),
        ('{"keys": [1]}', "no attribute"),
        ('{"keys": [{"kty": "magic"}]}', "unknown kty"),
        ('{"keys": [{"kty": "EC", "crv": "P-256"}]}', "x"),
        ('{"keys": [{"kty": "RSA", "n": "AQ", "e": 1}]}', ""),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_is_no_set_of_keys_is_refused(file: Path, document: str, reason: str) -> None:
    file.write_text(document)
    with pytest.raises(KeysInvalidError, match=f"jwks: {file}: not a set of keys: .*{reason}"):
        load(None, str(file))


@pytest.mark.parametrize("which", [0, 1], ids=["rootcertbundle", "jwks"])
def test_a_file_that_can_not_be_read_is_told(file: Path, which: int) -> None:
    files = [None, None]
    files[which] = str(file)  # type: ignore[call-overload]
    with pytest.raises(KeysInvalidError, match=f"can't read {file}: no such file"):
        load(*files)
    with file.open("wb") as large:
        large.truncate(KEY_FILE_LIMIT + 1)
    with pytest.raises(KeysInvalidError, match=f"{file}: more than {KEY_FILE_LIMIT} bytes"):
        load(*files)


def test_no_key_at_all_is_told(file: Path) -> None:
    file.write_text(json.dumps({"keys": []}))
    with pytest.raises(KeysInvalidError, match="no key to verify tokens with"):
        load(None, str(file))


@pytest.mark.parametrize("length", [0, CHAIN_LIMIT + 1])
def test_a_chain_has_a_length(length: int) -> None:
    with pytest.raises(ChainInvalidError, match=f"1 to {CHAIN_LIMIT}"):
        TrustedKeys({}, [ROOT]).of_chain(der(ROOT) * length, NOW)


def test_without_roots_no_chain_is_trusted() -> None:
    with pytest.raises(ChainInvalidError, match="no certificate is trusted"):
        TrustedKeys({}).of_chain(der(ROOT), NOW)


@pytest.mark.parametrize("days", [-2, 2])
def test_a_root_that_is_not_valid_now_signs_nothing(days: int) -> None:
    with pytest.raises(ChainInvalidError, match="not valid now"):
        TrustedKeys({}, [ROOT]).of_chain(der(ROOT), NOW + timedelta(days=days))


@pytest.mark.parametrize("document", [{}, {"kty": "oct"}, {"kty": "OKP", "crv": "X"}], ids=str)
def test_what_is_no_key_is_a_value_error(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        import_jwk(document)
