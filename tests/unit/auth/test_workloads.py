"""Who has a token of another issuer."""

import hashlib
import hmac
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from dockyard.auth.errors import TokenRefusedError
from dockyard.auth.keys import Key, TrustedKeys
from dockyard.auth.principal import Kind, Principal
from dockyard.auth.recognition import NameTemplate, Recognition, TextPattern
from dockyard.auth.tokens import TokenMalformedError, TokenUnfitError, TokenUntrustedError
from dockyard.auth.workloads import SEPARATORS, TrustedIssuer, Workloads
from tests.unit.auth.signed import NOW, claims, encode, sign


ISSUER = "https://issuer.example"
KEY = RSAKey.generate_key(2048)
OTHER = ECKey.generate_key("P-256")
SECRET = OctKey.generate_key(256)
TRUSTED: dict[str, Key] = {"key": KEY, "secret": SECRET}
HEADER = {"alg": "RS256", "kid": "key"}
PUBLIC = KEY.as_pem(private=False)


class Known:
    """The keys of an issuer, which are there."""

    async def of(self, name: str) -> TrustedKeys:
        del name
        return TrustedKeys(TRUSTED)


def trusted(
    principal: str = "ci:{repository}", *, issuer: str = ISSUER, **patterns: str
) -> TrustedIssuer:
    wanted = patterns or {"repository": "octo/*", "ref": "refs/heads/main"}
    conditions = {name: [TextPattern(text, SEPARATORS)] for name, text in wanted.items()}
    return TrustedIssuer(
        issuer=issuer,
        audience="registry",
        keys=Known(),
        recognition=Recognition(conditions, NameTemplate(principal), frozenset({"builds"})),
    )


def said(**over: object) -> dict[str, Any]:
    given = {"repository": "octo/app", "ref": "refs/heads/main", "access": ...}
    return claims(NOW, **({"iss": ISSUER, "aud": "registry", **given} | over))


def token(key: Key = KEY, header: dict[str, Any] = HEADER, **over: object) -> str:
    return sign(key, header, said(**over))


async def identify(text: str, *issuers: TrustedIssuer) -> Principal:
    found = await Workloads(issuers or [trusted()], lambda: NOW).identify(text)
    return found.principal


async def test_who_has_a_token_is_who_the_configuration_says() -> None:
    found = await identify(token())
    assert found == Principal(Kind.USER, "ci:octo/app", frozenset({"builds"}))


def _confused() -> str:
    signed = f"{encode({'alg': 'HS256', 'kid': 'key'})}.{encode(said())}"
    return f"{signed}.{encode(hmac.new(PUBLIC, signed.encode(), hashlib.sha256).digest())}"


SECONDS = int(NOW.timestamp())
REFUSED = [
    pytest.param(token(exp=SECONDS - 61), TokenUnfitError, id="expired"),
    pytest.param(token(exp=...), TokenUnfitError, id="without end"),
    pytest.param(token(exp=None), TokenUnfitError, id="null end"),
    pytest.param(token(exp="9999999999"), TokenMalformedError, id="end in text"),
    pytest.param(token(nbf=SECONDS + 61), TokenUnfitError, id="early"),
    pytest.param(token(aud="other"), TokenUnfitError, id="audience"),
    pytest.param(token(aud=...), TokenUnfitError, id="no audience"),
    pytest.param(token(aud=["other"]), TokenUnfitError, id="audiences"),
    pytest.param(token(iss="https://other.example"), TokenUntrustedError, id="issuer"),
    pytest.param(token(iss=ISSUER + "/"), TokenUntrustedError, id="issuer with a slash"),
    pytest.param(token(iss=...), TokenUntrustedError, id="no issuer"),
    pytest.param(
        f"{encode({'alg': 'none', 'kid': 'key'})}.{encode(said())}.", TokenUntrustedError, id="none"
    ),
    pytest.param(
        f"{encode({'alg': 'NONE', 'kid': 'key'})}.{encode(said())}.", TokenUntrustedError, id="NONE"
    ),
    pytest.param(_confused(), TokenUntrustedError, id="public key as a secret"),
    pytest.param(
        token(SECRET, {"alg": "HS256", "kid": "secret"}), TokenUntrustedError, id="a secret"
    ),
    pytest.param(token(OTHER, {"alg": "ES256", "kid": "key"}), TokenUntrustedError, id="kind"),
    pytest.param(token(OTHER, {"alg": "ES256", "kid": "x"}), TokenUntrustedError, id="unknown key"),
    pytest.param(
        token(OTHER, {"alg": "ES256", "jwk": OTHER.as_dict(private=False)}),
        TokenUntrustedError,
        id="its own key",
    ),
    pytest.param(
        token(OTHER, {"alg": "ES256", "kid": "key", "jku": "https://evil.example"}),
        TokenUntrustedError,
        id="a key elsewhere",
    ),
    pytest.param(token()[:-6] + "AAAAAA", TokenUntrustedError, id="signature"),
    pytest.param(token(repository=...), TokenUnfitError, id="missing claim"),
    pytest.param(token(ref=...), TokenUnfitError, id="missing condition"),
    pytest.param(token(ref="refs/heads/other"), TokenUnfitError, id="condition"),
    pytest.param(token(ref="refs/heads/main\n"), TokenUnfitError, id="line end"),
    pytest.param(token(ref={"a": "refs/heads/main"}), TokenUnfitError, id="object"),
    pytest.param(token(ref=["x"] * 100), TokenUnfitError, id="long list"),
    pytest.param(token(repository="octopus/app"), TokenUnfitError, id="another owner"),
    pytest.param(token(repository="octo/a/b"), TokenUnfitError, id="deeper"),
    pytest.param(token(repository="octo/{ref}"), TokenUnfitError, id="template in a claim"),
    pytest.param(token(repository="octo/a b"), TokenUnfitError, id="space"),
    pytest.param(token(repository="octo/$a"), TokenUnfitError, id="dollar"),
    pytest.param(token(repository="octo/a\u202eb"), TokenUnfitError, id="direction"),
    pytest.param(token(repository="octo/" + "x" * 250), TokenUnfitError, id="long"),
    pytest.param("a.b", TokenMalformedError, id="no token"),
    pytest.param("", TokenMalformedError, id="nothing"),
]


@pytest.mark.parametrize(("text", "kind"), REFUSED)
async def test_what_proves_nothing_is_refused(text: str, kind: type[TokenRefusedError]) -> None:
    with pytest.raises(kind):
        await identify(text)


async def test_the_first_entry_of_an_issuer_that_fits_decides() -> None:
    entries = [
        trusted("first:{repository}", ref="refs/heads/release"),
        trusted("second:{repository}", repository="octo/*"),
        trusted("third:{repository}", repository="**"),
        trusted("other:{repository}", issuer="https://other.example", repository="**"),
    ]
    assert (await identify(token(), *entries)).name == "second:octo/app"
    assert (await identify(token(repository="x"), *entries)).name == "third:x"
    with pytest.raises(TokenUnfitError):  # what fits, but can be no name, is nobody
        await identify(token(repository="octo/ "), *entries)


@pytest.mark.parametrize(
    ("claim", "pattern"), [(True, "true"), (7, "7"), (["x", "y"], "y"), (["x", 1], "x")]
)
async def test_flags_numbers_and_lists_can_be_conditions(claim: object, pattern: str) -> None:
    found = await identify(token(claim=claim), trusted("someone", claim=pattern))
    assert found.name == "someone"


async def test_what_was_proved_is_looked_at_by_the_present_configuration() -> None:
    moments = [NOW]
    before = Workloads([trusted()], lambda: moments[0])
    evidence = (await before.identify(token(exp=SECONDS + 300))).evidence
    assert before.recall(evidence).name == "ci:octo/app"
    now = Workloads([trusted("robot:ci:{repository}")], lambda: moments[0])
    assert now.recall(evidence).kind is Kind.ROBOT
    for gone in (
        [],
        [trusted(ref="refs/heads/other")],
        [trusted(more="x", repository="**")],
        [trusted(issuer="https://other.example")],
    ):
        with pytest.raises(TokenUnfitError):
            Workloads(gone, lambda: moments[0]).recall(evidence)
    with pytest.raises(TokenUnfitError):
        before.recall("nonsense")
    moments[0] = moments[0].fromtimestamp(SECONDS + 361, NOW.tzinfo)
    with pytest.raises(TokenUnfitError, match="expired"):
        before.recall(evidence)


async def test_an_end_beyond_all_times_is_taken() -> None:
    workloads = Workloads([trusted()], lambda: NOW)
    found = await workloads.identify(token(exp=1 << 62))
    assert workloads.recall(found.evidence) == found.principal


def test_whose_token_it_is_can_be_seen_before_it_is_proved() -> None:
    workloads = Workloads([trusted()], lambda: NOW)
    assert workloads.knows(token())
    for text in (token(iss="other"), token(iss=1), "a.b.c", ""):
        assert not workloads.knows(text)
