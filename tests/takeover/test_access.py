"""The same password file and the same tokens, before docker-registry 2.8.2 and before us."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
import httpx
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey, RSAKey

from dockyard.auth.keys import Key, libtrust_id
from dockyard.clock import utc_now
from tests.parts.registries import RegistryUnderTest, predecessor
from tests.unit.auth.signed import PrivateKey, certificate, claims, pem, sign, x5c


NOW = utc_now()
HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
LONG = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
USERS = (
    f"# comment\n\nalice:{HASH}\n  spaced:{HASH}  \nolder:{HASH.replace('2b', '2y', 1)}\n"
    f"first:{HASH.replace('2b', '2a', 1)}\nlong:{LONG}\nsha:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
    f"twice:{LONG}\ntwice:{HASH}\nempty:\nmore:{HASH}tail\n"
)
LOGINS = [
    ("alice", "secret"),
    ("alice", "wrong"),
    ("alice", ""),
    ("nobody", "secret"),
    ("spaced", "secret"),
    ("older", "secret"),
    ("first", "secret"),
    ("long", "x" * 72),
    ("long", "x" * 80),
    ("long", "x" * 71),
    ("sha", "secret"),
    ("twice", "secret"),
    ("empty", ""),
    ("more", "secret"),
    ("# comment", ""),
]


@contextmanager
def both(folder: Path, auth: dict[str, Any]) -> Iterator[list[RegistryUnderTest]]:
    settings = {"auth": auth}
    old = predecessor(folder / "old", settings)
    with old, RegistryUnderTest(folder / "new", settings=settings) as new:
        yield [old, new]


def test_the_same_passwords_are_right(tmp_path: Path) -> None:
    users = tmp_path / "htpasswd"
    users.write_text(USERS)
    auth = {"htpasswd": {"realm": "basic-realm", "path": str(users)}}
    with both(tmp_path, auth) as registries:
        for login in LOGINS:
            old, new = (httpx.get(f"{each.url}/v2/", auth=login) for each in registries)
            assert (login, new.status_code) == (login, old.status_code)
            assert new.headers.get("www-authenticate") == old.headers.get("www-authenticate")
            assert new.json() == old.json()
        old, new = (httpx.get(f"{each.url}/v2/a/tags/list") for each in registries)
        assert (old.status_code, old.json()) == (new.status_code, new.json())


PRIVATE = rsa.generate_private_key(65537, 2048)
ROOT = certificate("root", PRIVATE, now=NOW)


def _key(private: PrivateKey) -> Key:
    content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return RSAKey.import_key(content) if private is PRIVATE else ECKey.import_key(content)


LEAF = ec.generate_private_key(ec.SECP256R1())
ISSUED = certificate("leaf", LEAF, (ROOT, PRIVATE), now=NOW, authority=False)
STRAY = certificate("leaf", LEAF, now=NOW)
KID = libtrust_id(ROOT)
NAMED = {"alg": "RS256", "typ": "JWT", "kid": KID}


def _seconds(moment: datetime) -> float:
    found = moment.timestamp()
    return found if moment.microsecond else int(found)


def _timed(over: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the claims `over` with moments for what is said as a time from `now` on."""
    return {
        name: _seconds(now + value) if isinstance(value, timedelta) else value
        for name, value in over.items()
    }


TOKENS: dict[str, tuple[PrivateKey, dict[str, Any], dict[str, Any]]] = {
    "good": (PRIVATE, NAMED, {}),
    "rs512": (PRIVATE, NAMED | {"alg": "RS512"}, {}),
    "x5c": (LEAF, {"alg": "ES256", "x5c": x5c(ISSUED)}, {}),
    "x5c of a root": (PRIVATE, {"alg": "RS256", "x5c": x5c(ROOT)}, {}),
    "x5c of nobody": (LEAF, {"alg": "ES256", "x5c": x5c(STRAY)}, {}),
    "unknown key": (LEAF, {"alg": "ES256", "kid": "AAAA:BBBB"}, {}),
    "other key": (LEAF, {"alg": "ES256", "kid": KID}, {}),
    "list of audiences": (PRIVATE, NAMED, {"aud": ["other", "service"]}),
    "other audience": (PRIVATE, NAMED, {"aud": "other"}),
    "other issuer": (PRIVATE, NAMED, {"iss": "other"}),
    "expired": (PRIVATE, NAMED, {"exp": timedelta(minutes=-5)}),
    "within the leeway": (PRIVATE, NAMED, {"exp": timedelta(seconds=-20)}),
    "early": (PRIVATE, NAMED, {"nbf": timedelta(minutes=5)}),
    "without exp": (PRIVATE, NAMED, {"exp": ...}),
    "without nbf": (PRIVATE, NAMED, {"nbf": ...}),
    "float": (PRIVATE, NAMED, {"exp": timedelta(minutes=5)}),
    "no access": (PRIVATE, NAMED, {"access": []}),
    "null access": (PRIVATE, NAMED, {"access": None}),
    "wider": (
        PRIVATE,
        NAMED,
        {"access": [{"type": "repository", "name": "a/b", "actions": ["*"]}]},
    ),
    "other repository": (
        PRIVATE,
        NAMED,
        {"access": [{"type": "repository", "name": "a/c", "actions": ["pull"]}]},
    ),
}


NEWER = {"list of audiences"}
"""What distribution 3 takes and 2.8.2 does not."""


def test_the_same_tokens_are_good(tmp_path: Path) -> None:
    bundle = tmp_path / "root.pem"
    bundle.write_bytes(pem(ROOT))
    auth = {
        "token": {
            "realm": "https://auth.example/token",
            "service": "service",
            "issuer": "issuer",
            "rootcertbundle": str(bundle),
        }
    }
    with both(tmp_path, auth) as registries:
        for name, (private, header, over) in TOKENS.items():
            now = utc_now().replace(microsecond=500_000 if name == "float" else 0)
            token = sign(_key(private), header, claims(now, **_timed(over, now)))
            for path in ("/v2/", "/v2/a/b/tags/list", "/v2/_catalog"):
                headers = {"Authorization": f"Bearer {token}"}
                old, new = (httpx.get(f"{each.url}{path}", headers=headers) for each in registries)
                if name in NEWER:
                    assert (new.status_code == 401) == (path == "/v2/_catalog"), name
                    assert old.status_code == 401, name
                    continue
                assert (name, path, new.status_code) == (name, path, old.status_code)
                if name == "good":
                    assert (new.status_code == 401) == (path == "/v2/_catalog")
                challenges = (each.headers.get("www-authenticate") for each in (old, new))
                assert len(set(challenges)) == 1, name
                if new.status_code == 401:
                    assert new.json() == old.json()
        for junk in ("Bearer", "Bearer x", "bearer a.b.c", "Basic x", "x", "Bearer e30.e30.AA"):
            headers = {"Authorization": junk}
            old, new = (httpx.get(f"{each.url}/v2/", headers=headers) for each in registries)
            assert (junk, new.status_code) == (junk, old.status_code)
            assert new.headers["www-authenticate"] == old.headers["www-authenticate"]
