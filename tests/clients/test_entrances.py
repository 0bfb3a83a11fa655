"""Each client at each entrance, over TLS by an authority of the registry's own.

| | htpasswd | tokens of ours, with rules | tokens of another server |
| --- | --- | --- | --- |
| docker, podman, skopeo, containerd: a push by nobody | refused | refused | refused |
| a wrong password | refused | refused | refused |
| a push by who may only pull | (there is nobody) | refused | refused |
| a push and a pull by who may | done | done | done |
| a push to where nobody may | (there is no such place) | refused | refused |
| a pull by nobody | refused | done | done |
"""

import http.client
import ssl
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol

import bcrypt
import pytest
from typing_extensions import override

from tests.parts.addresses import ADDRESS, beyond_the_loopback
from tests.parts.authority import Authority
from tests.parts.engines import Containerd, DaemonlessEngine, DockerEngine
from tests.parts.images import image, write_layout
from tests.parts.programs import CommandFailedError
from tests.parts.registries import RegistryUnderTest
from tests.parts.token_server import token_server


HOST: Final = "registry.test"
PASSWORD: Final = "secret"
REFUSED: Final = (
    r"(?i)unauthori[sz]ed|denied|authentication required|forbidden|authorization failed"
    r"|invalid username/password|no basic auth credentials|too many requests"
)
RULES: Final = [
    {"repositories": ["open/**"], "actions": ["pull"], "who": ["anonymous"]},
    {"repositories": ["open/**"], "actions": ["push"], "who": ["user:pusher"]},
]


@dataclass(frozen=True, slots=True)
class Kind:
    """What an entrance does.

    Attributes:
        knows_readers: whether some who log in may only pull, and not everywhere.
        takes_nobody: whether who does not log in may pull.
    """

    knows_readers: bool
    takes_nobody: bool


KINDS: Final[Mapping[str, Kind]] = {
    "htpasswd": Kind(knows_readers=False, takes_nobody=False),
    "own-tokens": Kind(knows_readers=True, takes_nobody=True),
    "token-server": Kind(knows_readers=True, takes_nobody=True),
}


class Entrance(RegistryUnderTest):
    """A registry that speaks TLS, and asks who comes."""

    def __init__(self, folder: Path, authority: Authority, settings: Mapping[str, Any]) -> None:
        pair = authority.issue("registry", (HOST, ADDRESS, "127.0.0.1"))
        tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
        super().__init__(folder)
        self._authority = authority
        self.configure({**settings, "http": {"addr": f":{self.port}", "workers": 1, "tls": tls}})

    @property
    @override
    def address(self) -> str:
        return f"{ADDRESS}:{self.port}"

    @property
    def name(self) -> str:
        """How docker calls it, which verifies nothing of an address of this machine."""
        return f"{HOST}:{self.port}"

    @override
    def answers(self) -> bool:
        context = ssl.create_default_context(cafile=self._authority.certificate)
        connection = http.client.HTTPSConnection(ADDRESS, self.port, timeout=2, context=context)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 401
        except OSError:
            return False
        finally:
            connection.close()


class Client(Protocol):
    """What somebody does with a client; each fails with `CommandFailedError`."""

    def log_in(self, registry: Entrance, login: str, password: str = PASSWORD) -> None: ...

    def log_out(self, registry: Entrance) -> None: ...

    def push(self, registry: Entrance, name: str) -> None: ...

    def pull(self, registry: Entrance, name: str) -> None: ...


class Skopeo:
    """Copies from a layout, and to one."""

    def __init__(self, engine: DaemonlessEngine, trust: Path, layout: Path) -> None:
        self.engine = engine
        self.trust = trust
        self.layout = layout
        self._copies = count()

    def log_in(self, registry: Entrance, login: str, password: str = PASSWORD) -> None:
        who = ("--username", login, "--password", password)
        self.engine.skopeo("login", "--cert-dir", self.trust, *who, registry.address)

    def log_out(self, registry: Entrance) -> None:
        self.engine.skopeo("logout", registry.address)

    def push(self, registry: Entrance, name: str) -> None:
        to = f"docker://{registry.address}/{name}"
        self.engine.skopeo("copy", "--dest-cert-dir", self.trust, f"oci:{self.layout}", to)

    def pull(self, registry: Entrance, name: str) -> None:
        copy = self.engine.folder / f"copy-{next(self._copies)}"
        source = f"docker://{registry.address}/{name}"
        self.engine.skopeo("copy", "--src-cert-dir", self.trust, source, f"oci:{copy}")


class Podman(Skopeo):
    """Pushes from its own storage, and pulls into it."""

    @override
    def log_in(self, registry: Entrance, login: str, password: str = PASSWORD) -> None:
        who = ("--username", login, "--password", password)
        self.engine.podman("login", "--cert-dir", self.trust, *who, registry.address)

    @override
    def log_out(self, registry: Entrance) -> None:
        self.engine.podman("logout", registry.address)

    @override
    def push(self, registry: Entrance, name: str) -> None:
        kept = self.engine.podman("pull", "--quiet", f"oci:{self.layout}").strip()
        self.engine.podman("push", "--cert-dir", self.trust, kept, f"{registry.address}/{name}")

    @override
    def pull(self, registry: Entrance, name: str) -> None:
        self.engine.podman("rmi", "--all", "--force")
        self.engine.podman("pull", "--cert-dir", self.trust, f"{registry.address}/{name}")


class Docker:
    """Knows the authority by the folder ``certs.d``."""

    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine

    def log_in(self, registry: Entrance, login: str, password: str = PASSWORD) -> None:
        self.engine.docker("login", "--username", login, "--password", password, registry.name)

    def log_out(self, registry: Entrance) -> None:
        self.engine.docker("logout", registry.name)

    def push(self, registry: Entrance, name: str) -> None:
        self.engine.docker("tag", "made", f"{registry.name}/{name}")
        self.engine.docker("push", f"{registry.name}/{name}")

    def pull(self, registry: Entrance, name: str) -> None:
        self.engine.attempt("rmi", f"{registry.name}/{name}")
        self.engine.docker("pull", f"{registry.name}/{name}")


class Ctr:
    """containerd's own client: it has no login, but a user with each command."""

    def __init__(self, daemon: Containerd, hosts: Path, imported: str) -> None:
        self.daemon = daemon
        self.hosts = hosts
        self.imported = imported
        self.user: tuple[str, ...] = ()

    def log_in(self, registry: Entrance, login: str, password: str = PASSWORD) -> None:
        del registry
        self.user = ("--user", f"{login}:{password}")

    def log_out(self, registry: Entrance) -> None:
        del registry
        self.user = ()

    def push(self, registry: Entrance, name: str) -> None:
        full = f"{registry.address}/{name}"
        self.daemon.ctr("images", "tag", "--force", self.imported, full)
        self.daemon.ctr("images", "push", "--hosts-dir", self.hosts, *self.user, full)

    def pull(self, registry: Entrance, name: str) -> None:
        full = f"{registry.address}/{name}"
        self.daemon.attempt("images", "remove", full)
        options = ("--hosts-dir", self.hosts, "--snapshotter", "native")
        self.daemon.ctr("images", "pull", *options, *self.user, full)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def entrances(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Entrance]]:
    folder = tmp_path_factory.mktemp("entrances")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    users = folder / "users"
    users.write_text("".join(f"{name}:{hashed}\n" for name in ("pusher", "reader", "guessed")))
    htpasswd = {"htpasswd": {"realm": "registry", "path": str(users)}}
    with ExitStack() as stack:
        pair = authority.issue("tokens", (ADDRESS,))
        external = stack.enter_context(token_server(folder, ADDRESS, pair))
        settings: Mapping[str, Mapping[str, Any]] = {
            "htpasswd": {"auth": htpasswd},
            "own-tokens": {"auth": htpasswd, "access": {"rules": RULES}},
            "token-server": {"auth": {"token": external}},
        }
        running = {
            kind: stack.enter_context(Entrance(folder / kind, authority, each))
            for kind, each in settings.items()
        }
        yield running
        for registry in running.values():
            assert registry.complaints() == []


@pytest.fixture(scope="module")
def trust(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ``--cert-dir`` wants it."""
    folder = tmp_path_factory.mktemp("trust")
    (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
    return folder


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_layout(tmp_path_factory.mktemp("layout") / "image", image("entrances", layers=2))


@pytest.fixture(scope="module")
def docker(
    authority: Authority,
    entrances: Mapping[str, Entrance],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Docker]:
    known = {f"{each.name}/ca.crt": authority.certificate for each in entrances.values()}
    folder = tmp_path_factory.mktemp("e1")
    with DockerEngine(folder, hosts={HOST: ADDRESS}, certificates=known) as engine:
        engine.make_image("made", {"a": "by docker\n"}, layers=2)
        yield Docker(engine)


@pytest.fixture(scope="module")
def containerd(
    authority: Authority,
    entrances: Mapping[str, Entrance],
    layout: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ctr]:
    hosts = tmp_path_factory.mktemp("hosts")
    for each in entrances.values():
        (hosts / each.address).mkdir()
        (hosts / each.address / "hosts.toml").write_text(
            f'server = "https://{each.address}"\n\n'
            f'[host."https://{each.address}"]\n  ca = "{authority.certificate}"\n'
        )
    archive = hosts / "layout.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(layout, ".")
    with Containerd(tmp_path_factory.mktemp("ce")) as daemon:
        daemon.ctr("images", "import", "--no-unpack", "--base-name", "made", archive)
        yield Ctr(daemon, hosts, "made:latest")


@pytest.fixture
def client(
    request: pytest.FixtureRequest, here: DaemonlessEngine, trust: Path, layout: Path
) -> Client:
    match request.param:
        case "skopeo":
            return Skopeo(here, trust, layout)
        case "podman":
            return Podman(here, trust, layout)
        case fixture:
            client: Client = request.getfixturevalue(fixture)
            return client


def try_wrong_password(client: Client, registry: Entrance, name: str) -> None:
    """Fail as who guesses: a user that no other test needs, since the next guess has to wait."""
    client.log_in(registry, "guessed", "wrong")
    client.push(registry, name)  # where logging in is only to note the password


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "client",
    ["skopeo", "podman", "containerd", pytest.param("docker", marks=beyond_the_loopback)],
    indirect=True,
)
def test_who_gets_in(
    entrances: Mapping[str, Entrance], client: Client, kind: str, request: pytest.FixtureRequest
) -> None:
    registry, does = entrances[kind], KINDS[kind]
    who = request.node.callspec.params["client"]
    name, closed = f"open/{who}:1", f"closed/{who}:1"
    with pytest.raises(CommandFailedError, match=REFUSED):
        client.push(registry, name)
    with pytest.raises(CommandFailedError, match=REFUSED):
        try_wrong_password(client, registry, name)
    if does.knows_readers:
        client.log_in(registry, "reader")
        with pytest.raises(CommandFailedError, match=REFUSED):
            client.push(registry, name)
    client.log_in(registry, "pusher")
    client.push(registry, name)
    client.pull(registry, name)
    if does.knows_readers:
        with pytest.raises(CommandFailedError, match=REFUSED):
            client.push(registry, closed)
    client.log_out(registry)
    if does.takes_nobody:
        client.pull(registry, name)
    else:
        with pytest.raises(CommandFailedError, match=REFUSED):
            client.pull(registry, name)
