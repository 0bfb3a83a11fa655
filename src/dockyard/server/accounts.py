"""From settings to the accounts that can log in here."""

from pathlib import Path

from dockyard.auth.accounts import Accounts, AllAccounts, PlainUsers, Robots, Users, groups_of
from dockyard.auth.htpasswd import HtpasswdFile
from dockyard.config.settings import Settings


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
