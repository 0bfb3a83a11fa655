"""Container engines with private state: docker, containerd, and podman, buildah and skopeo, which
have no daemon.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.parts.daemon import Daemon
from tests.parts.programs import attempt, require, require_root, run


DOCKERD_FLAGS: Final = (
    "--iptables=false",
    "--ip6tables=false",
    "--bridge=none",
    "--ip-forward=false",
    "--ip-masq=false",
)
"""What keeps an engine from touching the machine's network."""

NO_OVERLAY: Final = re.compile(r"overlay\S* .*(not supported|invalid argument|not permitted)")
"""What an engine logs where overlayfs does not work, as inside some containers."""


class DockerEngine:
    """A docker engine of its own: one node of the walkthrough.

    Attributes:
        folder: holds its data, socket and log. Its path must be short: that of a socket has at most
        107 bytes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        insecure: Sequence[str] = (),
        hosts: Mapping[str, str] | None = None,
        certificates: Mapping[str, Path] | None = None,
    ) -> None:
        """Prepare an engine that trusts the registries `insecure`.

        It knows the names in `hosts` (name to address) by a hosts file that only it sees; the
        machine's is left alone. With `hosts` may come `certificates`: what is to lie in
        ``/etc/docker/certs.d``, such as ``HOST:PORT/ca.crt``, which only it sees either.
        """
        require_root("a docker engine mounts layers")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._daemon: Daemon | None = None
        (folder / "daemon.json").write_text(json.dumps({"insecure-registries": list(insecure)}))
        for name, source in (certificates or {}).items():
            target = folder / "certs.d" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
        self._hosts = ""
        if hosts:
            self._hosts = "127.0.0.1 localhost\n::1 localhost\n" + "".join(
                f"{address} {name}\n" for name, address in hosts.items()
            )

    def start(self) -> Self:
        """Start the engine and return once it answers.

        Where overlayfs does not work, it is started once more with the driver that works
        everywhere.
        """
        try:
            self._start()
        except AssertionError as failure:
            if not NO_OVERLAY.search(str(failure)):
                raise
            self._start("--storage-driver", "vfs")
        return self

    def _start(self, *more: str) -> None:
        self._daemon = Daemon(
            [
                *self._with_hosts(),
                require("dockerd"),
                *DOCKERD_FLAGS,
                *("-H", f"unix://{self.folder}/s", "--data-root", self.folder / "data"),
                *("--exec-root", self.folder / "exec", "--pidfile", self.folder / "pid"),
                *("--config-file", self.folder / "daemon.json"),
                *more,
            ],
            self.folder / "log",
        )
        self._daemon.wait_until(lambda: self.attempt("version").returncode == 0)

    def _with_hosts(self) -> Sequence[str | Path]:
        """Return what runs the next command with its own ``/etc/hosts``, in the same process."""
        if not self._hosts:
            return ()
        (self.folder / "hosts").write_text(self._hosts)
        script = 'mount --bind "$0/hosts" /etc/hosts && '
        if (self.folder / "certs.d").exists():
            script += (
                "mkdir -p /etc/docker && mount -t tmpfs none /etc/docker && "
                'cp -R "$0/certs.d" /etc/docker && '
            )
        unshare = (require("unshare"), "--mount", "--propagation", "private")
        return (*unshare, "sh", "-c", f'{script} exec "$@"', self.folder)

    def stop(self) -> None:
        """Stop the engine, and with it the containerd that it started."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _env(self) -> Mapping[str, str]:
        """The client's environment: this engine, no credentials, and the builder that needs no
        plugin.
        """
        return {
            "DOCKER_HOST": f"unix://{self.folder}/s",
            "DOCKER_CONFIG": str(self.folder / "client"),
            "DOCKER_BUILDKIT": "0",
        }

    def docker(self, *arguments: str | Path) -> str:
        """Run the client against this engine and return its standard output."""
        return run("docker", *arguments, env=self._env)

    def attempt(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the client against this engine, whatever comes of it."""
        return attempt("docker", *arguments, env=self._env)

    def make_image(self, name: str, files: Mapping[str, str], *, layers: int) -> str:
        """Make an image `name` of `layers` layers and return its id; nothing is fetched or run.

        The first layer is an imported tar of `files`; each further one adds a file to it.
        """
        work = Path(tempfile.mkdtemp(dir=self.folder))
        for path, text in files.items():
            (work / path).write_text(text)
        run("tar", "-cf", work / "base.tar", "-C", work, *files)
        base = name if layers == 1 else f"base-of-{name}"
        self.docker("import", work / "base.tar", base)
        if layers > 1:
            for number in range(1, layers):
                (work / f"added-{number}").write_text(f"{name} layer {number}\n")
            steps = [f"ADD added-{number} /\n" for number in range(1, layers)]
            (work / "Dockerfile").write_text(f"FROM {base}\n{''.join(steps)}LABEL made-by=tests\n")
            self.docker("build", "--quiet", "--tag", name, work)
        return self.image_id(name)

    def image_id(self, name: str) -> str:
        """Return the id of an image, which is the digest of its configuration."""
        return self.docker("image", "inspect", "--format", "{{.Id}}", name).strip()

    def layers(self, name: str) -> str:
        """Return the digests of an image's uncompressed layers, as JSON."""
        return self.docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", name).strip()


class Containerd:
    """A containerd of its own, driven by `ctr`."""

    def __init__(self, folder: Path) -> None:
        require_root("containerd unpacks layers")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._daemon: Daemon | None = None

    def start(self) -> Self:
        """Start the daemon and return once it answers."""
        config = self.folder / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{self.folder}/s"\n'
        )
        self._daemon = Daemon([require("containerd"), "--config", config], self.folder / "log")
        self._daemon.wait_until(lambda: self.attempt("version").returncode == 0)
        return self

    def stop(self) -> None:
        """Stop the daemon."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ctr(self, *arguments: str | Path) -> str:
        """Run `ctr` against this daemon and return its standard output."""
        return run("ctr", "--address", self.folder / "s", *arguments)

    def attempt(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `ctr` against this daemon, whatever comes of it."""
        return attempt("ctr", "--address", self.folder / "s", *arguments)


class DaemonlessEngine:
    """Scratch storage and configuration for podman, buildah and skopeo; two of them are two
    machines.
    """

    def __init__(self, folder: Path) -> None:
        require_root("vfs storage keeps the owners of files")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._write("policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        self._write("auth.json", "{}")
        self._write("registries.conf", "unqualified-search-registries = []\n")
        self._write(
            "storage.conf",
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n',
        )
        self._write(
            "containers.conf",
            f'[engine]\ntmp_dir = "{folder}/tmp"\n'
            'events_logger = "none"\ncgroup_manager = "cgroupfs"\n',
        )

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    @property
    def _env(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.folder / "registries.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "REGISTRY_AUTH_FILE": str(self.folder / "auth.json"),
            "BUILDAH_ISOLATION": "chroot",
        }

    def podman(self, *arguments: str | Path) -> str:
        """Run podman and return its standard output."""
        return run("podman", *arguments, env=self._env)

    def buildah(self, *arguments: str | Path) -> str:
        """Run buildah and return its standard output."""
        return run("buildah", *arguments, env=self._env)

    def skopeo(self, *arguments: str | Path) -> str:
        """Run skopeo and return its standard output."""
        return run("skopeo", "--policy", self.folder / "policy.json", *arguments, env=self._env)
