"""From settings to who is let in."""

from dataclasses import dataclass
from pathlib import Path

from dockyard.auth.accounts import Accounts, AllAccounts, PlainUsers, Robots, Users, groups_of
from dockyard.auth.apikeys import ApiKeys
from dockyard.auth.htpasswd import HtpasswdFile, provision
from dockyard.auth.issuer import Issuer, TokenSettings
from dockyard.auth.keys import KeysInvalidError, load
from dockyard.auth.logins import Logins
from dockyard.auth.policy import GRANTABLE, Policy, Rule, compile_pattern
from dockyard.auth.signing import KeyRing
from dockyard.auth.tokens import LEEWAY, Expected
from dockyard.auth.verifier import Verifier
from dockyard.clock import Clock
from dockyard.config.access import AccessSettings, RuleSettings
from dockyard.config.auth import TokenSettings as ExternalSettings
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
from dockyard.storage import layout


@dataclass(frozen=True, slots=True)
class Entrance:
    """Who is let in, and who issues tokens."""

    gate: Gate | None = None
    issuer: Issuer | None = None


def build_entrance(settings: Settings, clock: Clock, keys: ApiKeys | None = None) -> Entrance:
    """Return who is let in, as `settings` say.

    Args:
        settings: the configuration.
        clock: tells whether tokens are good now.
        keys: the API keys; without them only passwords are taken.

    Raises:
        StorageError: a file that it needs can't be read, or made; its message says which.
    """
    auth = settings.auth
    if auth.htpasswd is not None:
        _provision(Path(auth.htpasswd.path))
    if settings.access is not None:
        return _ruled(settings, settings.access, clock, keys)
    if auth.silly is not None:
        return Entrance(SillyGate(auth.silly.realm, auth.silly.service))
    if auth.htpasswd is not None:
        users = PlainUsers(HtpasswdFile(Path(auth.htpasswd.path)))
        return Entrance(HtpasswdGate(auth.htpasswd.realm, Logins(users, keys=keys)))
    if auth.token is not None:
        return Entrance(_token_gate(auth.token, clock))
    return Entrance()


def build_rules(access: AccessSettings) -> Policy:
    """Return the rules that `access` says."""
    return Policy([_rule(number, rule) for number, rule in enumerate(access.rules, 1)])


def build_accounts(settings: Settings) -> Accounts | None:
    """Return the accounts; `None` where nobody can log in here."""
    access, htpasswd = settings.access, settings.auth.htpasswd
    if access is None:
        return None if htpasswd is None else PlainUsers(HtpasswdFile(Path(htpasswd.path)))
    places: list[Accounts] = []
    if htpasswd is not None:
        places.append(Users(HtpasswdFile(Path(htpasswd.path)), groups_of(access.groups)))
    if access.robots:
        hashes = {
            name: "" if robot.hash is None else robot.hash.get_secret_value()
            for name, robot in access.robots.items()
        }
        places.append(Robots(hashes))
    return AllAccounts(places) if places else None


def _ruled(
    settings: Settings, access: AccessSettings, clock: Clock, keys: ApiKeys | None
) -> Entrance:
    policy, accounts = build_rules(access), build_accounts(settings)
    logins = None if accounts is None else Logins(accounts, keys=keys)
    base = (settings.http.host or "").rstrip("/")
    realm = Realm(access.token.realm or "", f"{settings.http.prefix or '/'}auth/token", base)
    issuer: Issuer | None = None
    if access.token.enabled and logins is not None:
        tokens = TokenSettings(
            service=access.token.service,
            lifetime=access.token.lifetime,
            refresh_lifetime=access.token.refreshlifetime,
        )
        kept = max(tokens.lifetime, tokens.refresh_lifetime) + LEEWAY
        issuer = Issuer(tokens, KeyRing(_keys(settings), clock, kept), policy, logins, clock)
    return Entrance(RulesGate(policy, logins, issuer, realm), issuer)


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
