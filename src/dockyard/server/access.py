"""From settings to who is let in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from dockyard.auth.accounts import AllAccounts, PlainUsers, groups_of
from dockyard.auth.apikeys import ApiKeys
from dockyard.auth.certificates import SEPARATORS, Certificates
from dockyard.auth.directory import Directory, DirectorySettings
from dockyard.auth.directory_logins import DirectoryLogins
from dockyard.auth.htpasswd import HtpasswdFile, provision
from dockyard.auth.issuer import Issuer, TokenSettings
from dockyard.auth.jwks import IssuerKeys, of_file, of_issuer, of_url
from dockyard.auth.keys import KeysInvalidError, load
from dockyard.auth.logins import Guard, Logins
from dockyard.auth.policy import GRANTABLE, Policy, Rule, compile_pattern
from dockyard.auth.recognition import NameTemplate, Recognition, TextPattern
from dockyard.auth.signing import KeyRing
from dockyard.auth.tokens import LEEWAY, Expected
from dockyard.auth.verifier import Verifier
from dockyard.auth.workloads import SEPARATORS as CLAIM_SEPARATORS, TrustedIssuer, Workloads
from dockyard.clock import Clock
from dockyard.config.access import AccessSettings, RuleSettings
from dockyard.config.auth import TokenSettings as ExternalSettings
from dockyard.config.identities import OidcSettings
from dockyard.config.settings import Settings
from dockyard.config.storage import FilesystemSettings
from dockyard.errors import StorageError
from dockyard.http.gates import (
    Gate,
    HtpasswdGate,
    Realm,
    RedirectRealm,
    RulesGate,
    SillyGate,
    TokenGate,
)
from dockyard.server.accounts import build_accounts
from dockyard.storage import layout


Origin: TypeAlias = tuple[str, str | None]
"""An issuer, and where its keys are said to be."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """Who is let in, and who issues tokens.

    Attributes:
        guard: what bounds logins; the next entrance takes it over, and what follows too.
        keys: what our tokens are signed with.
        sources: the keys of other issuers.
    """

    gate: Gate | None = None
    issuer: Issuer | None = None
    guard: Guard | None = None
    keys: KeyRing | None = None
    sources: Mapping[Origin, IssuerKeys] = field(default_factory=dict)


def build_entrance(
    settings: Settings,
    clock: Clock,
    before: Entrance | None = None,
    api_keys: ApiKeys | None = None,
) -> Entrance:
    """Return who is let in, as `settings` say.

    Args:
        settings: the settings.
        clock: tells whether a token is good now.
        before: the entrance that this one replaces. Failed logins stay counted; what was found
            good is forgotten.
        api_keys: the API keys; without them only passwords are taken.

    Raises:
        StorageError: a file that it needs can't be read, or made; its message says which.
    """
    auth = settings.auth
    if auth.htpasswd is not None:
        _provision(Path(auth.htpasswd.path))
    if settings.access is not None:
        return _ruled(settings, settings.access, before or Entrance(), clock, api_keys)
    if auth.silly is not None:
        return Entrance(SillyGate(auth.silly.realm, auth.silly.service))
    if auth.htpasswd is not None:
        users = PlainUsers(HtpasswdFile(Path(auth.htpasswd.path)))
        return Entrance(HtpasswdGate(auth.htpasswd.realm, Logins(users, keys=api_keys)))
    if auth.token is not None:
        return Entrance(_token_gate(auth.token, clock))
    return Entrance()


def build_rules(access: AccessSettings) -> Policy:
    """Return the rules that `access` says."""
    return Policy([_rule(number, rule) for number, rule in enumerate(access.rules, 1)])


def build_certificates(access: AccessSettings, clock: Clock) -> Certificates | None:
    """Return who shows a certificate, as `access` says."""
    if not access.certificates:
        return None
    members = groups_of(access.groups)
    recognitions = [
        Recognition(
            conditions={
                name: [TextPattern(pattern, SEPARATORS[name])]
                for name, pattern in each.patterns.items()
            },
            template=NameTemplate(each.principal),
            groups=frozenset(each.groups),
            members=members,
        )
        for each in access.certificates
    ]
    return Certificates(recognitions, clock)


def build_workloads(
    access: AccessSettings, clock: Clock, sources: dict[Origin, IssuerKeys]
) -> Workloads | None:
    """Return who has a token of another issuer, as `access` says.

    Args:
        access: the settings.
        clock: tells whether a token is good now.
        sources: keys that are there already; those that are missing are added.

    Raises:
        StorageError: a file of keys can't be used.
    """
    if not access.oidc:
        return None
    members = groups_of(access.groups)
    issuers = [
        TrustedIssuer(
            issuer=each.issuer,
            audience=each.audience,
            keys=_keys_of(each, number, sources),
            recognition=Recognition(
                conditions={
                    claim: [TextPattern(pattern, CLAIM_SEPARATORS) for pattern in patterns]
                    for claim, patterns in each.conditions.items()
                },
                template=NameTemplate(each.principal),
                groups=frozenset(each.groups),
                members=members,
            ),
        )
        for number, each in enumerate(access.oidc)
    ]
    return Workloads(issuers, clock)


def build_directory(access: AccessSettings) -> Directory | None:
    """Return the directory of accounts, as `access` says.

    Raises:
        StorageError: the library is not installed, or a setting can't be used.
    """
    settings = access.ldap
    if settings is None:
        return None
    named = (who for rule in access.rules for who in rule.who if who.startswith("group:"))
    return Directory(
        DirectorySettings(
            url=settings.url,
            starttls=settings.starttls,
            ca=settings.ca or "",
            binddn=settings.binddn,
            bindpassword=settings.bindpassword.get_secret_value(),
            userbase=settings.userbase,
            userfilter=settings.userfilter,
            nameattribute=settings.nameattribute,
            groupbase=settings.groupbase or "",
            groupfilter=settings.groupfilter or "",
            groupattribute=settings.groupattribute,
            memberof=settings.memberof or "",
            groupprefix=settings.groupprefix,
            named=frozenset(who.removeprefix("group:") for who in named),
            seconds=settings.timeout.total_seconds(),
        )
    )


def _keys_of(settings: OidcSettings, number: int, sources: dict[Origin, IssuerKeys]) -> IssuerKeys:
    """Return the keys of an issuer, those that are there if it was known before."""
    origin = (settings.issuer, settings.jwks)
    found = sources.get(origin)
    if found is not None:
        return found
    if settings.jwks is None:
        found = IssuerKeys(settings.issuer, partial(of_issuer, settings.issuer))
    elif settings.jwks.startswith("/"):
        found = IssuerKeys(settings.issuer, partial(of_file, Path(settings.jwks)))
        try:
            found.load()
        except KeysInvalidError as error:
            raise StorageError(f"access.oidc[{number}].jwks: {error}") from error
    else:
        found = IssuerKeys(settings.issuer, partial(of_url, settings.jwks))
    sources[origin] = found
    return found


def _ruled(
    settings: Settings,
    access: AccessSettings,
    before: Entrance,
    clock: Clock,
    api_keys: ApiKeys | None,
) -> Entrance:
    policy, accounts = build_rules(access), build_accounts(settings)
    guard = before.guard or Guard()
    sources = dict(before.sources)
    workloads = build_workloads(access, clock, sources)
    directory = build_directory(access)
    logins: Logins | None = None
    if accounts is not None or workloads is not None or directory is not None:
        accounts = accounts or AllAccounts([])
        logins = Logins(accounts, guard=guard, workloads=workloads, keys=api_keys)
        if directory is not None:
            logins.directory = DirectoryLogins(
                directory,
                local=accounts,
                members=groups_of(access.groups),
                throttle=guard.throttle,
                queue=guard.directory,
            )
    base = (settings.http.host or "").rstrip("/")
    realm = Realm(access.token.realm or "", f"{settings.http.prefix or '/'}auth/token", base)
    issuer: Issuer | None = None
    keys = before.keys
    if access.token.enabled and logins is not None:
        tokens = TokenSettings(
            service=access.token.service,
            lifetime=access.token.lifetime,
            refresh_lifetime=access.token.refreshlifetime,
        )
        kept = max(tokens.lifetime, tokens.refresh_lifetime) + LEEWAY
        place = _keys(settings)
        if keys is None or place is not None:  # a key in memory must not be lost
            keys = KeyRing(place, clock, kept)
        issuer = Issuer(tokens, keys, policy, logins, clock)
    gate = RulesGate(policy, logins, issuer, realm, build_certificates(access, clock))
    return Entrance(gate, issuer, guard, keys, sources)


def _keys(settings: Settings) -> Path | None:
    driver = settings.storage.driver
    if isinstance(driver, FilesystemSettings):
        return driver.rootdirectory / layout.keys()
    return None


def _rule(number: int, rule: RuleSettings) -> Rule:
    named = {action.value: action for action in GRANTABLE}
    actions = named.values() if "*" in rule.actions else (named[each] for each in rule.actions)
    return Rule(
        number=number,
        repositories=tuple(compile_pattern(pattern) for pattern in rule.repositories),
        actions=frozenset(actions),
        who=frozenset(rule.who),
        allows=rule.effect != "deny",
    )


def _provision(path: Path) -> None:
    try:
        provision(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"auth.htpasswd.path: can't make {path}: {reason}") from error


def _token_gate(settings: ExternalSettings, clock: Clock) -> TokenGate:
    try:
        keys = load(settings.rootcertbundle, settings.jwks)
    except KeysInvalidError as error:
        raise StorageError(str(error)) from error
    expected = Expected(
        issuer=settings.issuer,
        audience=settings.service,
        algorithms=settings.signingalgorithms,
    )
    realm = Realm(settings.realm)
    if settings.autoredirect:
        realm = RedirectRealm(settings.autoredirectpath)
    return TokenGate(realm, settings.service, Verifier(expected, lambda _: keys, clock))
