"""pebble, Let's Encrypt's own ACME server for tests, with a DNS that sends every name here."""

import json
import ssl
import urllib.request
from pathlib import Path
from typing import Self

from tests.parts.authority import Authority
from tests.parts.daemon import Daemon, accepts, free_port
from tests.parts.programs import require


class Pebble:
    """An authority that issues for any name whose port it finds at `tls_port`.

    Attributes:
        trust: the file by which clients trust its API.
        url: of its directory.
    """

    def __init__(self, folder: Path, tls_port: int) -> None:
        folder.mkdir()
        own = Authority(folder / "authority")
        pair = own.issue("pebble")
        self.trust = own.certificate
        self._folder = folder
        self._api, self._management, self._dns, self._dns_management = (
            free_port() for _ in range(4)
        )
        self.url = f"https://localhost:{self._api}/dir"
        settings = {
            "listenAddress": f"127.0.0.1:{self._api}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(pair.certificate),
            "privateKey": str(pair.key),
            "httpPort": 1,
            "tlsPort": tls_port,
            "domainBlocklist": ["blocked.example"],
            "profiles": {"default": {"description": "", "validityPeriod": 7776000}},
        }
        (folder / "config.json").write_text(json.dumps({"pebble": settings}))
        self._daemons: list[Daemon] = []

    def __enter__(self) -> Self:
        names = Daemon(
            [
                require("pebble-challtestsrv"),
                *("-dnsserver", f"127.0.0.1:{self._dns}", "-defaultIPv6", ""),
                *("-management", f"127.0.0.1:{self._dns_management}"),
                *("-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""),
            ],
            self._folder / "names.log",
        )
        self._daemons.append(names)
        names.wait_until(lambda: accepts(self._dns_management))
        server = Daemon(
            [
                require("pebble"),
                *("-config", self._folder / "config.json"),
                *("-dnsserver", f"127.0.0.1:{self._dns}"),
            ],
            self._folder / "pebble.log",
            env={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "15"},
        )
        self._daemons.append(server)
        server.wait_until(lambda: accepts(self._api) and accepts(self._management))
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self._daemons):
            daemon.stop()

    @property
    def log(self) -> str:
        """What it has done so far."""
        return (self._folder / "pebble.log").read_text()

    def root(self) -> str:
        """Return the certificate that its certificates lead to."""
        context = ssl.create_default_context(cafile=self.trust)
        with urllib.request.urlopen(
            f"https://localhost:{self._management}/roots/0", context=context, timeout=5
        ) as answer:
            return str(answer.read().decode())
