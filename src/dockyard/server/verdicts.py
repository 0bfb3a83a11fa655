"""What somebody may do by a configuration, without asking its server, and why."""

from pathlib import Path
from typing import Final

from dockyard.auth.accounts import AllAccounts, PlainUsers
from dockyard.auth.actions import Action
from dockyard.auth.htpasswd import HtpasswdFile
from dockyard.auth.principal import ANONYMOUS, ROBOT_PREFIX, Principal
from dockyard.auth.verdict import Verdict, judge
from dockyard.config.access import AccessSettings
from dockyard.config.settings import Settings
from dockyard.server.access import build_accounts, build_rules


NOBODY: Final = "anonymous"
"""What whoever does not log in is called where somebody has to be named."""


class StrangerError(Exception):
    """There is nobody of a name, or it can't be told here what they may; the message says why."""


def decide(settings: Settings, login: str, action: Action, repository: str) -> Verdict:
    """Return whether who logs in as `login` may do `action` to `repository`.

    Args:
        settings: the configuration.
        login: a user, ``robot$NAME``, or `NOBODY`.
        action: what is to be done.
        repository: to what; empty for all repositories at once.

    Raises:
        StrangerError: nobody logs in so, or whoever issues tokens decides.
        StorageError: the password file can't be read.
    """
    if settings.access is not None:
        principal = _find(settings, settings.access, login)
        return judge(build_rules(settings.access), principal, action, repository)
    return _without_rules(settings, login)


def _find(settings: Settings, access: AccessSettings, login: str) -> Principal:
    if login == NOBODY:
        return ANONYMOUS
    account = AllAccounts(build_accounts(settings)).find(login)
    if account is not None:
        return account.principal
    if login.startswith(ROBOT_PREFIX):
        known = ", ".join(f"{ROBOT_PREFIX}{name}" for name in access.robots) or "none"
        raise StrangerError(f"there is no robot {login!r} in access.robots (there: {known})")
    if settings.auth.htpasswd is None:
        raise StrangerError(
            f"there is no user {login!r}: users need auth.htpasswd, which is not configured"
        )
    raise StrangerError(f"there is no user {login!r} in {settings.auth.htpasswd.path}")


def _without_rules(settings: Settings, login: str) -> Verdict:
    auth = settings.auth
    if auth.token is not None:
        raise StrangerError(
            f"what the tokens of {auth.token.issuer} grant is decided by their issuer: there are "
            "no rules here (access)"
        )
    if auth.silly is not None:
        return Verdict(login != NOBODY, reason="auth.silly lets in whoever sends any credentials")
    if auth.htpasswd is None:
        return Verdict(allowed=True, reason="there are no rules (access), and nobody is asked")
    if login == NOBODY:
        return Verdict(allowed=False, reason="auth.htpasswd lets in nobody without a password")
    if PlainUsers(HtpasswdFile(Path(auth.htpasswd.path))).find(login) is None:
        raise StrangerError(f"there is no user {login!r} in {auth.htpasswd.path}")
    return Verdict(allowed=True, reason="there are no rules (access): who logs in may everything")
