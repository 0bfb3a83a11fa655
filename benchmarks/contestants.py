"""Who is compared: how each is started, and what all its processes use."""

import contextlib
import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import yaml


ROOT: Final = Path(__file__).resolve().parent.parent
PARTS: Final = ROOT / ".parts/bin"
OURS: Final = "Dockyard"
V2: Final = "docker-registry 2.8.2"
V3: Final = "distribution 3.1.1"
NGINX: Final = "nginx"
ZOT: Final = "zot"
REGISTRIES: Final = (OURS, V2, V3)

TICK: Final = os.sysconf("SC_CLK_TCK")
SAMPLING: Final = 0.1
"""Seconds between two looks at the memory."""

STARTING: Final = 120.0
"""Seconds that a contestant may take until it answers."""

FILES: Final = 65536
"""Open files that a server may have: more than the rows with many connections need."""


def search_path() -> str:
    """Return where programs are looked for: also where a user's path does not lead."""
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def programs() -> dict[str, Path]:
    """Return the contestants that are installed, ours first."""
    candidates = {
        OURS: shutil.which("registry", path=str(Path(sys.executable).parent)),
        V2: shutil.which("docker-registry"),
        V3: shutil.which("registry-v3", path=str(PARTS)),
        ZOT: shutil.which("zot", path=str(PARTS)),
        NGINX: shutil.which("nginx", path=search_path()),
    }
    return {name: Path(program) for name, program in candidates.items() if program}


def version(name: str, program: Path) -> str:
    """Return what a contestant calls itself."""
    option = "-v" if name == NGINX else "--version"
    done = subprocess.run([program, option], capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).strip().replace(f"{program.parent}/", "")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a contestant serves, and how.

    Attributes:
        data: the storage's root directory.
        sections: of the configuration, beside storage and address.
        certificate: with it, TLS 1.3 is spoken; the key lies beside it, called ``.key``.
        places: for nginx: the file that a path is answered with.
    """

    data: Path
    sections: Mapping[str, Any] = field(default_factory=dict)
    certificate: Path | None = None
    places: Mapping[str, Path] = field(default_factory=dict)


def environment() -> dict[str, str]:
    """Return the environment of all contestants."""
    found = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
    # Compiling the sources anew at each start is what nobody does who has installed them.
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


def free_port() -> int:
    """Return a port of the loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def registry_config(setup: Setup, port: int) -> str:
    """Return the configuration that Dockyard and both distributions read: distribution's own."""
    http: dict[str, Any] = {"addr": f"127.0.0.1:{port}"}
    if setup.certificate:
        http["tls"] = {
            "certificate": str(setup.certificate),
            "key": str(setup.certificate.with_suffix(".key")),
            "minimumtls": "tls1.3",
        }
    return yaml.safe_dump(
        {
            "version": "0.1",
            "storage": {
                "filesystem": {"rootdirectory": str(setup.data)},
                "cache": {"blobdescriptor": "inmemory"},
                "delete": {"enabled": True},
            },
            "http": http,
            **setup.sections,
        }
    )


def zot_config(setup: Setup, port: int) -> str:
    """Return zot's configuration: docker's types are taken, and what is written is synced."""
    http: dict[str, Any] = {"address": "127.0.0.1", "port": str(port), "compat": ["docker2s2"]}
    if setup.certificate:
        key = setup.certificate.with_suffix(".key")
        http["tls"] = {"cert": str(setup.certificate), "key": str(key)}
    storage = {"rootDirectory": str(setup.data), "commit": True, "gc": False}
    document = {"distSpecVersion": "1.1.1", "storage": storage, "http": http}
    return json.dumps(document | {"log": {"level": "info"}})


def nginx_config(setup: Setup, port: int, folder: Path) -> str:
    """Return a configuration of nginx that serves the blobs, and `places`, by sendfile."""
    blobs = setup.data / "docker/registry/v2/blobs"
    places = "".join(
        f"location = {path} {{ default_type application/octet-stream; alias {file}; }}\n"
        for path, file in setup.places.items()
    )
    tls, listen = "", f"127.0.0.1:{port}"
    if setup.certificate:
        listen += " ssl http2"
        tls = (
            f"ssl_certificate {setup.certificate};\n"
            f"ssl_certificate_key {setup.certificate.with_suffix('.key')};\n"
            "ssl_protocols TLSv1.3;\n"
        )
    return f"""\
user {getpass.getuser()};
daemon off;
worker_processes auto;
worker_rlimit_nofile {FILES};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen {listen};
    {tls}
    {places}
    location = /v2/ {{ return 200; }}
    location ~ "^/v2/.+/blobs/sha256:((..).*)$" {{
      default_type application/octet-stream;
      alias {blobs}/sha256/$2/$1/data;
    }}
  }}
}}
"""


class Server:
    """A contestant that runs.

    Attributes:
        name: as printed.
        port: where it listens.
        scheme: ``http`` or ``https``.
        started: seconds from its start to its first 200.
        setup: what it serves.
    """

    def __init__(self, name: str, program: Path, setup: Setup, folder: Path) -> None:
        self.name: Final = name
        self.setup: Final = setup
        self.port: Final = free_port()
        self.scheme: Final = "https" if setup.certificate else "http"
        self.started = 0.0
        self._program: Final = program
        self._folder: Final = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return once it answers.

        Raises:
            SystemExit: it ended, or does not answer in time; the message shows where its log is.
        """
        self._folder.mkdir(parents=True)
        command = self._command()
        began = time.perf_counter()
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment())
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - began > STARTING:
                log_end = (self._folder / "log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"{self.name} does not serve:\n{log_end}")
            time.sleep(0.002)
        self.started = time.perf_counter() - began

    def _command(self) -> list[str]:
        """Write the configuration; return the command line."""
        config = self._folder / ("config.json" if self.name == ZOT else "config.yml")
        match self.name:
            case "nginx":
                config.write_text(nginx_config(self.setup, self.port, self._folder))
                return [str(self._program), "-p", str(self._folder), "-c", str(config)]
            case "zot":
                config.write_text(zot_config(self.setup, self.port))
            case _:
                config.write_text(registry_config(self.setup, self.port))
        return [str(self._program), "serve", str(config)]

    def _answers(self) -> bool:
        """Return whether ``GET /v2/`` is answered; by TLS and behind a gate, whether it listens."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 10) as s,
        ):
            if self.scheme == "https":
                return True
            s.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return s.recv(64).startswith((b"HTTP/1.1 200", b"HTTP/1.1 401"))
        return False

    def stop(self) -> None:
        """End it, by its process."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def processes(self) -> list[int]:
        """Return the server's processes."""
        assert self._process is not None
        found, parents = list[int](), [self._process.pid]
        while parents:
            pid = parents.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    parents += [int(child) for child in task.read_text().split()]
        return found

    def cpu(self) -> float:
        """Return the seconds of CPU that it used, in all processes, ended ones included."""
        ticks = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
        return ticks / TICK

    def memory(self) -> int:
        """Return its proportional memory at this moment, in bytes."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += sum(int(kb) for kb in re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE))
        return total << 10


@contextmanager
def serving(name: str, program: Path, setup: Setup, folder: Path) -> Iterator[Server]:
    """Run a contestant; it is ended when the block ends."""
    server = Server(name, program, setup, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Meter:
    """What a server uses while the block runs.

    Attributes:
        cpu: seconds of CPU.
        peak: bytes of memory, the most of all looks.
    """

    def __init__(self, server: Server) -> None:
        self.cpu = 0.0
        self.peak = 0
        self._server: Final = server
        self._ending: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self.cpu = -self._server.cpu()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu += self._server.cpu()
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._server.memory())
            if self._ending.wait(SAMPLING):
                return
