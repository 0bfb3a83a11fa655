"""The token service: tokens for who logs in, and for everybody what everybody may.

Source: distribution v3.1.1, docs/spec/auth/token.md and oauth.md.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from dockyard.auth.accounts import Account
from dockyard.auth.errors import LoginRefusedError, TokenRefusedError, UnauthenticatedError
from dockyard.auth.principal import (
    ANONYMOUS,
    DIRECTORY_CLAIM,
    WORKLOAD_CLAIM,
    WORKLOAD_LOGIN,
    Principal,
)
from dockyard.errors import InvalidError
from dockyard.http.messages import QUERY_FIELDS, Headers, Request, Response
from dockyard.http.services import Services
from dockyard.protocol.challenge import (
    Basic,
    parse_authorization,
    parse_scopes,
    render_basic,
)


if TYPE_CHECKING:  # it needs what only some configurations need
    from dockyard.auth.issuer import Issued, Issuer


FORM_LIMIT: Final = 64 << 10
"""Bytes of a form, at most: a refresh token and a hundred scopes."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Who was proved to ask for a token.

    Attributes:
        principal: who.
        account: their account, if they have one here: only then they get refresh tokens.
        evidence: claims that prove it again, if they have none.
    """

    principal: Principal
    account: Account | None = None
    evidence: Mapping[str, object] | None = None


async def get(services: Services, request: Request) -> Response:
    """Answer with a token for who sends a password, or for nobody in particular."""
    issuer = _issuer(services)
    _check_service(issuer, request.query("service"))
    proof = Proof(ANONYMOUS)
    credentials = parse_authorization(request.header("authorization"))
    if isinstance(credentials, Basic):
        proof = await _log_in(issuer, request, credentials.login, credentials.password)
    elif request.header("authorization") and credentials is not None:
        raise _refused(issuer)
    request.principal = proof.principal
    issued = issuer.issue(proof.principal, _wanted(request.queries("scope")), proof.evidence)
    document: dict[str, object] = {"token": issued.token, **_described(issued)}
    if proof.account is not None and request.query("offline_token") == "true":
        document["refresh_token"] = issuer.issue_refresh(proof.account)
    return _json(document)


async def post(services: Services, request: Request) -> Response:
    """Answer with a token for who sends a password or a refresh token in a form."""
    issuer = _issuer(services)
    form = await _form(request)
    _check_service(issuer, form.get("service"))
    match form.get("grant_type"):
        case "password":
            proof = await _log_in(
                issuer, request, form.get("username", ""), form.get("password", "")
            )
        case "refresh_token":
            try:
                account = await issuer.refresh(form.get("refresh_token", ""))
                proof = Proof(account.principal, account)
            except TokenRefusedError as error:
                raise _refused(issuer) from error
        case _:
            raise InvalidError("grant_type must be password or refresh_token")
    request.principal = proof.principal
    issued = issuer.issue(proof.principal, _wanted([form.get("scope", "")]), proof.evidence)
    document = {**_described(issued), "scope": form.get("scope", "")}
    if form.get("grant_type") == "refresh_token":
        document["refresh_token"] = form["refresh_token"]
    elif form.get("access_type") == "offline" and proof.account is not None:
        document["refresh_token"] = issuer.issue_refresh(proof.account)
    return _json(document)


async def keys(services: Services, _request: Request) -> Response:
    """Answer with the public keys of our tokens."""
    return _json({"keys": list(_issuer(services).public_keys())})


def _issuer(services: Services) -> "Issuer":
    assert services.issuer is not None  # these routes are there only with it
    return services.issuer


def _check_service(issuer: "Issuer", service: str | None) -> None:
    if service and service != issuer.service:
        raise InvalidError(f"tokens are for the service {issuer.service}, no other")


async def _log_in(issuer: "Issuer", request: Request, login: str, password: str) -> Proof:
    workloads = issuer.logins.workloads
    try:
        if workloads is not None and login == WORKLOAD_LOGIN:
            workload = await workloads.identify(password)
            return Proof(workload.principal, evidence={WORKLOAD_CLAIM: workload.evidence})
        account = await issuer.logins.log_in(login, password, request.address)
    except (LoginRefusedError, TokenRefusedError) as error:
        raise _refused(issuer) from error
    if account.evidence is not None:
        return Proof(account.principal, evidence={DIRECTORY_CLAIM: account.evidence})
    return Proof(account.principal, account)


def _refused(issuer: "Issuer") -> UnauthenticatedError:
    return UnauthenticatedError(render_basic(issuer.service))


def _wanted(scopes: Sequence[str]) -> list[tuple[str, str, str]]:
    return [
        (scope.type, scope.name, action)
        for scope in parse_scopes(scopes)
        for action in scope.actions
    ]


def _described(issued: "Issued") -> dict[str, object]:
    moment = datetime.fromtimestamp(issued.issued_at, UTC)
    return {
        "access_token": issued.token,
        "expires_in": issued.seconds,
        "issued_at": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


async def _form(request: Request) -> Mapping[str, str]:
    body = await request.content(FORM_LIMIT)
    try:
        text = body.decode()
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS)
    except ValueError as error:
        raise InvalidError("not a form") from error
    return dict(fields)


def _json(document: Mapping[str, object]) -> Response:
    headers: Headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store")]
    return Response(200, headers, json.dumps(document, separators=(",", ":")).encode() + b"\n")
