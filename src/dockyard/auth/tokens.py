"""Bearer tokens: whether one is good, and what it grants.

    TokenRefusedError
    ├── TokenMalformedError      not a token at all
    ├── TokenUntrustedError      its key, or how it is signed, is not trusted
    └── TokenUnfitError          well signed, but not for us, or not now

Exactly one key is looked at, the one that the header names: by ``x5c``, else by ``jwk``, else by
``kid``. A key that comes with the token is good only if it is trusted already. The algorithm must
be allowed *and* fit the kind of the key, so a public key never becomes the secret of an HMAC.

Source: distribution v3.1.1, registry/auth/token/token.go; RFC 7515; RFC 7519.
"""

import base64
import binascii
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from dockyard.auth.actions import Access
from dockyard.auth.errors import TokenRefusedError
from dockyard.auth.keys import ChainInvalidError, Key, TrustedKeys, import_jwk
from dockyard.clock import Clock


LEEWAY: Final = timedelta(seconds=60)
"""How far the clocks of issuer and registry may be apart. Source: distribution."""

TOKEN_LIMIT: Final = 32 << 10
"""Characters of a token, at most: no longer one fits into the head of a request."""

GRANTS_LIMIT: Final = 1000
"""Single grants of a token, at most."""


class TokenMalformedError(TokenRefusedError):
    """This is not a token."""


class TokenUntrustedError(TokenRefusedError):
    """Nobody we trust signed this token, or not in a way that we trust."""


class TokenUnfitError(TokenRefusedError):
    """The token is not from our issuer, not for us, or not for this moment."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says.

    Attributes:
        subject: who it was given to; may be empty.
        grants: what they may do.
        more: every claim, as it came.
    """

    subject: str
    grants: frozenset[Access]
    more: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a token has to be.

    Attributes:
        issuer: who has to have issued it.
        audience: whom it has to be for.
        algorithms: how it may be signed.
    """

    issuer: str
    audience: str
    algorithms: Collection[str]


def verify(
    text: str, expected: Expected, keys: Callable[[str], TrustedKeys], clock: Clock
) -> Claims:
    """Return what the token `text` says.

    Args:
        text: the token.
        expected: what it has to be.
        keys: returns what is trusted; it is told the key's name in the token's header, if any.
        clock: tells whether it is good now.

    Raises:
        TokenRefusedError: it is not good; its kind says in which way.
    """
    signed, signature, header, payload = _parse(text)
    now, name = clock(), header.get("kid")
    key = _key(header, keys(name if isinstance(name, str) else ""), now)
    _check_signature(header, key, expected.algorithms, (signed, signature))
    return _claims(payload, expected, now)


def peek(text: str) -> tuple[str, str]:
    """Return whose token `text` says it is, and which key it names: nothing of it is proved.

    Raises:
        TokenMalformedError: it is no token.
    """
    _, _, header, payload = _parse(text)
    issuer, name = _object(payload).get("iss"), header.get("kid")
    return (issuer if isinstance(issuer, str) else "", name if isinstance(name, str) else "")


def _parse(text: str) -> tuple[bytes, bytes, Mapping[str, Any], bytes]:
    parts = text.split(".")
    if len(text) > TOKEN_LIMIT or len(parts) != 3:  # noqa: PLR2004 -- the compact form
        raise TokenMalformedError("not three parts, or too long")
    header, payload, signature = (_decode(part) for part in parts)
    fields = _object(header)
    if "crit" in fields or "b64" in fields:
        raise TokenMalformedError("its header has extensions that are not understood")
    return text.rpartition(".")[0].encode("ascii"), signature, fields, payload


def _decode(part: str) -> bytes:
    """Return the bytes in base64url without padding (RFC 7515, section 2)."""
    if not part.isascii() or "=" in part or "+" in part or "/" in part:
        raise TokenMalformedError("not base64url")
    try:
        padded = part + "=" * (-len(part) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise TokenMalformedError("not base64url") from error


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise TokenMalformedError("not JSON") from error
    if not isinstance(value, dict):
        raise TokenMalformedError("not a JSON object")
    return value


def _key(header: Mapping[str, Any], keys: TrustedKeys, now: datetime) -> Key:
    """Return the one key that the header names, if it is trusted."""
    if header.get("x5c") is not None:
        return _key_of_chain(header["x5c"], keys, now)
    if header.get("jwk") is not None:
        return _key_of_jwk(header["jwk"], keys, now)
    name = header.get("kid")
    if not isinstance(name, str):
        raise TokenUntrustedError("its header names no key")
    key = keys.by_name.get(name)
    if key is None:
        raise TokenUntrustedError("its kid is not a trusted key")
    return key


def _key_of_chain(chain: object, keys: TrustedKeys, now: datetime) -> Key:
    if not isinstance(chain, list) or not all(isinstance(item, str) for item in chain):
        raise TokenMalformedError("its x5c is not a list of certificates")
    try:
        return keys.of_chain([base64.b64decode(item, validate=True) for item in chain], now)
    except ValueError as error:
        raise TokenMalformedError("its x5c is not base64") from error
    except ChainInvalidError as error:
        raise TokenUntrustedError(f"its x5c: {error}") from error


def _key_of_jwk(document: object, keys: TrustedKeys, now: datetime) -> Key:
    """Return the trusted key that a token brings along: ours, never the token's copy of it."""
    if not isinstance(document, dict):
        raise TokenMalformedError("its jwk is not an object")
    if document.get("x5c") is not None:
        return _key_of_chain(document["x5c"], keys, now)
    try:
        print_ = import_jwk(document).thumbprint()
    except ValueError as error:
        raise TokenMalformedError("its jwk is not a key") from error
    for key in keys.by_name.values():
        if key.key_type != "oct" and key.thumbprint() == print_:
            return key
    raise TokenUntrustedError("its jwk is not a trusted key")


def _check_signature(
    header: Mapping[str, Any], key: Key, algorithms: Collection[str], parts: tuple[bytes, bytes]
) -> None:
    name = header.get("alg")
    if not isinstance(name, str) or name == "none" or name not in algorithms:
        raise TokenUntrustedError("its algorithm is not allowed")
    algorithm = JWSRegistry.algorithms.get(name)
    if algorithm is None:
        raise TokenUntrustedError("its algorithm is not known")
    try:
        algorithm.check_key(key)
        good = algorithm.verify(*parts, key)
    except (JoseError, ValueError) as error:
        raise TokenUntrustedError("its algorithm does not fit the key") from error
    if not good:
        raise TokenUntrustedError("its signature is wrong")


def _claims(payload: bytes, expected: Expected, now: datetime) -> Claims:
    claims = _object(payload)
    if _text(claims, "iss") != expected.issuer:
        raise TokenUnfitError("it is from another issuer")
    if expected.audience not in _audience(claims.get("aud")):
        raise TokenUnfitError("it is for another audience")
    if now > _moment(claims, "exp") + LEEWAY:
        raise TokenUnfitError("it has expired")
    if now < _moment(claims, "nbf") - LEEWAY:
        raise TokenUnfitError("it is not valid yet")
    return Claims(_text(claims, "sub"), _grants(claims.get("access")), claims)


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TokenMalformedError(f"its {name} is not text")
    return value


def _audience(value: object) -> Sequence[str]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if value is None:
        return ()
    raise TokenMalformedError("its aud is neither text nor a list of texts")


def _moment(claims: Mapping[str, Any], name: str) -> datetime:
    """Return a time; one that is not given is 1970, as in distribution: long expired."""
    value = claims.get(name, 0)
    if value is None:
        value = 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise TokenMalformedError(f"its {name} is not a number of seconds")
    try:
        # Room for the leeway on both sides.
        return max(_FIRST, min(_LAST, datetime.fromtimestamp(value, UTC)))
    except (OverflowError, ValueError, OSError):
        return _LAST if value > 0 else _FIRST


_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def _grants(value: object) -> frozenset[Access]:
    if value is None:
        return frozenset()
    if not isinstance(value, list):
        raise TokenMalformedError("its access is not a list")
    found: set[Access] = set()
    for item in value:
        if not isinstance(item, dict):
            raise TokenMalformedError("its access has what is no object")
        actions = item.get("actions") or []
        if not isinstance(actions, list) or not all(isinstance(one, str) for one in actions):
            raise TokenMalformedError("its access has actions that are no texts")
        kind, name = _text(item, "type"), _text(item, "name")
        found |= {Access(kind, name, action) for action in actions}
        if len(found) > GRANTS_LIMIT:
            raise TokenMalformedError(f"it grants more than {GRANTS_LIMIT} things")
    return frozenset(found)
