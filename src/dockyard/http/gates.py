"""Who is let in: one gate for each way to tell who asks, and what they may.

A gate looks at a request before its handler does. It puts who asks into the request, or raises.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from typing_extensions import override

from dockyard.auth.actions import Access, Action, covers, needed
from dockyard.auth.asker import Granted, Ruled, Unbounded
from dockyard.auth.errors import (
    DeniedError,
    LoginRefusedError,
    TokenRefusedError,
    UnauthenticatedError,
)
from dockyard.auth.policy import OPEN, Policy
from dockyard.auth.principal import ANONYMOUS, WORKLOAD_LOGIN, Principal, user
from dockyard.http.messages import Request
from dockyard.oci.reference import is_name
from dockyard.protocol.challenge import (
    Basic,
    Bearer,
    group,
    parse_authorization,
    render_basic,
    render_bearer,
)


if TYPE_CHECKING:  # they need what only some configurations need
    from dockyard.auth.certificates import Certificates
    from dockyard.auth.issuer import Issuer
    from dockyard.auth.logins import Logins
    from dockyard.auth.verifier import Verifier


INVALID: Final = "invalid_token"
INSUFFICIENT: Final = "insufficient_scope"
"""Why a token is not enough. Source: RFC 6750, section 3.1."""


class Gate(Protocol):
    """Looks who asks.

    Attributes:
        reads_only_heads: whether the head of a request is all that this is told by.
    """

    reads_only_heads: bool

    async def admit(self, request: Request, action: Action) -> None:
        """Set the request's `asker`, who may do `action` to what the request names.

        Raises:
            UnauthenticatedError: they have to say who they are, or to get a better token.
            DeniedError: they may not.
            TooManyLoginsError: their password was not looked at.
            StorageError: it can't be told.
        """
        ...


class Realm:
    """Where clients get their tokens.

    Args:
        url: the URL; empty to take it from each request.
        path: its path, then.
        base: the scheme and host, then; empty to take these from each request too.
    """

    def __init__(self, url: str, path: str = "", base: str = "") -> None:
        self._url: Final = url
        self._path: Final = path
        self._base: Final = base

    def of(self, request: Request) -> str:
        """Return the URL for whoever sends `request`."""
        return self._url or f"{self._base or request.base_url}{self._path}"


class RedirectRealm(Realm):
    """Where clients get their tokens on the host that they asked. Source: distribution."""

    def __init__(self, path: str) -> None:
        super().__init__("", path)

    @override
    def of(self, request: Request) -> str:
        """Return the URL for whoever sends `request`."""
        scheme = request.header("x-forwarded-proto") or "https"
        return f"{scheme}://{request.header('host') or ''}{self._path}"


class SillyGate:
    """Lets everybody in who sends ``Authorization``, whatever is in it. For trials only."""

    reads_only_heads = True

    def __init__(self, realm: str, service: str) -> None:
        self._realm: Final = realm
        self._service: Final = service

    async def admit(self, request: Request, action: Action) -> None:
        """Let the request in if it has the header."""
        wanted = wanted_by(request, action)
        if not request.header("authorization"):
            challenge = render_bearer(self._realm, self._service, group(wanted))
            raise UnauthenticatedError(challenge, wanted)
        request.asker = Unbounded(user("silly"))


class HtpasswdGate:
    """Lets users in, who may everything then; with an API key, what that is good for."""

    reads_only_heads = True

    def __init__(self, realm: str, logins: "Logins") -> None:
        self._challenge: Final = render_basic(realm)
        self._logins: Final = logins

    async def admit(self, request: Request, action: Action) -> None:
        """Let the request in if its password is right."""
        credentials = parse_authorization(request.header("authorization"))
        refused = UnauthenticatedError(self._challenge, wanted_by(request, action))
        if not isinstance(credentials, Basic):
            raise refused
        try:
            principal = await self._logins.check(
                credentials.login, credentials.password, request.address
            )
        except LoginRefusedError as error:
            raise refused from error
        if principal.scope is None:
            request.asker = Unbounded(principal)
            return
        asker = Ruled(principal, OPEN)
        request.asker = asker
        if action is not Action.BASE and not _allows(asker, request, action):
            raise DeniedError(principal.login, wanted_by(request, action))


class TokenGate:
    """Lets bearers of tokens in that somebody else issued: the token says what they may."""

    reads_only_heads = True

    def __init__(self, realm: Realm, service: str, verifier: "Verifier") -> None:
        self._realm: Final = realm
        self._service: Final = service
        self._verifier: Final = verifier

    async def admit(self, request: Request, action: Action) -> None:
        """Let the request in if its token grants what it asks for."""
        credentials = parse_authorization(request.header("authorization"))
        if not isinstance(credentials, Bearer):
            raise self._refusal(request, action)
        try:
            claims = self._verifier.verify(credentials.token)
        except TokenRefusedError as error:
            raise self._refusal(request, action, INVALID) from error
        principal = user(claims.subject) if claims.subject else ANONYMOUS
        request.asker = Granted(principal, claims.grants)
        if not covers(claims.grants, _accesses(request, action)):
            raise self._refusal(request, action, INSUFFICIENT)

    def _refusal(self, request: Request, action: Action, error: str = "") -> UnauthenticatedError:
        wanted = wanted_by(request, action)
        realm = self._realm.of(request)
        return UnauthenticatedError(
            render_bearer(realm, self._service, group(wanted), error), wanted
        )


class RulesGate:
    """Lets in whom the rules allow what they ask for: with a password, our token, or nothing.

    Who asks for the base without credentials is asked for them, whatever is open to everybody:
    clients decide there, for all that follows, whether they will send any.

    Args:
        policy: the rules.
        logins: who can log in; `None` if nobody can.
        issuer: issues tokens; `None` where passwords are asked for by themselves.
        realm: where tokens are to be had.
        certificates: who shows a certificate; `None` if that tells nothing.
    """

    def __init__(
        self,
        policy: Policy,
        logins: "Logins | None",
        issuer: "Issuer | None",
        realm: Realm,
        certificates: "Certificates | None" = None,
    ) -> None:
        self._policy: Final = policy
        self._logins: Final = logins
        self._issuer: Final = issuer
        self._realm: Final = realm
        self._certificates: Final = certificates
        self.reads_only_heads = certificates is None

    async def admit(self, request: Request, action: Action) -> None:
        """Let the request in if the rules allow it."""
        asker = await self._identify(request, action)
        request.asker = asker
        principal = asker.principal
        if action is Action.BASE:
            if principal.is_anonymous and asker.grants is None and self._logins is not None:
                raise self._refusal(request, action)
            return
        if not _allows(asker, request, action):
            if principal.is_anonymous and self._logins is not None:
                error = "" if asker.grants is None else INSUFFICIENT
                raise self._refusal(request, action, error)
            raise DeniedError(principal.login, wanted_by(request, action))
        if asker.grants is not None and not covers(asker.grants, _accesses(request, action)):
            raise self._refusal(request, action, INSUFFICIENT)

    async def _identify(self, request: Request, action: Action) -> Ruled:
        credentials = parse_authorization(request.header("authorization"))
        try:
            match credentials:
                case Basic() | Bearer() if (token := self._foreign(credentials)) is not None:
                    return Ruled(await self._by_token(token), self._policy)
                case Basic() if self._logins is not None:
                    principal = await self._logins.check(
                        credentials.login, credentials.password, request.address
                    )
                    return Ruled(principal, self._policy)
                case Bearer() if self._issuer is not None:
                    principal, claims = await self._issuer.verify(credentials.token)
                    return Ruled(principal, self._policy, claims.grants)
                case None:
                    return Ruled(self._by_certificate(request), self._policy)
                case _:
                    raise self._refusal(request, action)
        except LoginRefusedError as error:
            raise self._refusal(request, action) from error
        except TokenRefusedError as error:
            raise self._refusal(request, action, INVALID) from error

    def _foreign(self, credentials: Basic | Bearer) -> str | None:
        """Return the token of a workload, sent as a password or as it is; else `None`."""
        workloads = None if self._logins is None else self._logins.workloads
        if workloads is None:
            return None
        if isinstance(credentials, Basic):
            return credentials.password if credentials.login == WORKLOAD_LOGIN else None
        return credentials.token if workloads.knows(credentials.token) else None

    async def _by_token(self, token: str) -> Principal:
        assert self._logins is not None
        assert self._logins.workloads is not None
        return (await self._logins.workloads.identify(token)).principal

    def _by_certificate(self, request: Request) -> Principal:
        if self._certificates is None:
            return ANONYMOUS
        shown = request.certificate
        return ANONYMOUS if shown is None else self._certificates.identify(shown)

    def _refusal(self, request: Request, action: Action, error: str = "") -> UnauthenticatedError:
        wanted = wanted_by(request, action)
        if self._issuer is None:
            return UnauthenticatedError(render_basic("registry"), wanted)
        realm, service = self._realm.of(request), self._issuer.service
        return UnauthenticatedError(render_bearer(realm, service, group(wanted), error), wanted)


def wanted_by(request: Request, action: Action) -> Sequence[tuple[str, str, str]]:
    """Return what a request asks for, as type, name and action each.

    A mount asks for the pull from its source too: so the client gets a token that grants it. That
    it is not granted is no reason to refuse, see `dockyard.http.uploads`.
    """
    wanted = [(each.kind, each.name, each.action) for each in _accesses(request, action)]
    if action is Action.PUSH and request.method == "POST" and request.query("mount"):
        source = request.query("from")
        if source and is_name(source):
            wanted.append(("repository", source, Action.PULL.value))
    return wanted


def _allows(asker: Ruled, request: Request, action: Action) -> bool:
    if action is Action.CATALOG:
        return asker.policy.may_ever(asker.principal, action)
    return asker.allowed(action, request.parameters.get("name", ""))


def _accesses(request: Request, action: Action) -> Sequence[Access]:
    return needed(action, request.parameters.get("name", ""))
