"""What somebody may do by a configuration, without asking its server, and why."""

from dataclasses import replace
from typing import Final

from dockyard.auth.accounts import Accounts, groups_of
from dockyard.auth.actions import Action
from dockyard.auth.apikeys import scope_of
from dockyard.auth.directory import AmbiguousError
from dockyard.auth.errors import DirectoryUnavailableError, KeyUnknownError
from dockyard.auth.policy import OPEN
from dockyard.auth.principal import ANONYMOUS, ROBOT_PREFIX, Principal
from dockyard.auth.verdict import Verdict, judge
from dockyard.config.access import AccessSettings
from dockyard.config.settings import Settings
from dockyard.server.access import build_directory, build_rules
from dockyard.server.accounts import build_accounts
from dockyard.server.maintenance import missing_state, open_keys
from dockyard.threads import in_thread


NOBODY: Final = "anonymous"
"""What whoever does not log in is called where somebody has to be named."""

KEY_PREFIX: Final = "key:"
"""What the name of an API key begins with where somebody has to be named: no user is called so."""


class StrangerError(Exception):
    """There is nobody of a name, or it can't be told here what they may; the message says why."""


async def decide(settings: Settings, who: str, action: Action, repository: str) -> Verdict:
    """Return whether `who` may do `action` to `repository`.

    Args:
        settings: the configuration.
        who: a user, ``robot$NAME``, ``key:NAME``, or `NOBODY`.
        action: what is to be done.
        repository: to what; empty for all repositories at once.

    Raises:
        StrangerError: there is nobody called so, or whoever issues tokens decides.
        KeyUnknownError: there is no such key.
        StorageError: the password file, or the state database, can't be read.
    """
    _require_own_accounts(settings)
    accounts = build_accounts(settings)
    principal: Principal | None
    if who == NOBODY:
        principal = ANONYMOUS
    elif who.startswith(KEY_PREFIX):
        principal, reason = await _of_key(settings, accounts, who.removeprefix(KEY_PREFIX))
        if principal is None:
            return Verdict(allowed=False, reason=reason)
    else:
        principal = await _find(settings, accounts, who)
    if settings.access is not None:
        return judge(build_rules(settings.access), principal, action, repository)
    if principal.scope is not None:
        return judge(OPEN, principal, action, repository)
    return _without_rules(settings, principal)


def _require_own_accounts(settings: Settings) -> None:
    if settings.auth.token is not None:
        raise StrangerError(
            f"what the tokens of {settings.auth.token.issuer} grant is decided by their issuer: "
            "there are no rules here (access)"
        )


async def _find(settings: Settings, accounts: Accounts | None, login: str) -> Principal:
    account = None if accounts is None else accounts.find(login)
    if account is not None:
        return account.principal
    if login.startswith(ROBOT_PREFIX) and settings.access is not None:
        known = ", ".join(f"{ROBOT_PREFIX}{name}" for name in settings.access.robots) or "none"
        raise StrangerError(f"there is no robot {login!r} in access.robots (there: {known})")
    if settings.access is not None and settings.access.ldap is not None:
        return await _in_directory(settings.access, accounts, login)
    if settings.auth.htpasswd is not None:
        raise StrangerError(f"there is no user {login!r} in {settings.auth.htpasswd.path}")
    if settings.access is None:  # then nobody is asked who they are
        return Principal(ANONYMOUS.kind, login)
    raise StrangerError(
        f"there is no user {login!r}: users need auth.htpasswd, which is not configured"
    )


async def _in_directory(access: AccessSettings, accounts: Accounts | None, login: str) -> Principal:
    """Return who `login` is in the directory, which is asked as for a login, without a password."""
    directory = build_directory(access)
    assert directory is not None
    url = directory.settings.url
    try:
        found = await in_thread(directory.find, login)
    except AmbiguousError as error:
        raise StrangerError(f"{login!r} can't log in by {url}: {error}") from error
    except DirectoryUnavailableError as error:
        raise StrangerError(f"{url} can't be asked: {error.reason}") from error
    if found is None:
        raise StrangerError(f"there is no user {login!r}, neither here nor in {url}")
    if accounts is not None and accounts.find(found.name) is not None:
        raise StrangerError(
            f"{login!r} is {found.name!r} in {url}, but the password file has a user of that name, "
            "who goes first"
        )
    members = groups_of(access.groups).get(found.name, frozenset())
    return replace(found, groups=found.groups | members)


async def _of_key(
    settings: Settings, accounts: Accounts | None, name: str
) -> tuple[Principal | None, str]:
    """Return who comes with a key; `None`, and why, if it is good for nothing any more."""
    if accounts is None:
        raise StrangerError(
            "nobody can log in with a key: there is neither auth.htpasswd nor access.robots"
        )
    if missing_state(settings):  # asking must not begin one
        raise KeyUnknownError(name)
    keys = open_keys(settings)
    try:
        key = await keys.find(name)
    finally:
        await keys.close()
    useless, owner = keys.why_useless(key), accounts.find(key.owner)
    if useless or owner is None:
        return None, f"the key is good for nothing any more: {useless or 'owner gone'}"
    scope = scope_of(key.identifier, key.name, key.actions, key.repositories)
    return replace(owner.principal, scope=scope), ""


def _without_rules(settings: Settings, principal: Principal) -> Verdict:
    auth = settings.auth
    if auth.silly is not None:
        lets_in = "auth.silly lets in whoever sends any credentials"
        return Verdict(bool(principal.name), reason=lets_in)
    if auth.htpasswd is None:
        return Verdict(allowed=True, reason="there are no rules (access), and nobody is asked")
    if principal.is_anonymous:
        return Verdict(allowed=False, reason="auth.htpasswd lets in nobody without a password")
    return Verdict(allowed=True, reason="there are no rules (access): who logs in may everything")
