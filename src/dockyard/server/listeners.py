"""The sockets a service listens on."""

import errno
import os
import socket
import stat
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol


BACKLOG: Final = 4096
"""Connections the kernel completes before we accept them; it cuts this to its own `somaxconn`,
which is 4096. Source: Linux, net/core/sock.c."""

KEEPALIVE_SECONDS: Final = 15
"""After this much silence, and then as often, the kernel asks whether the peer still exists; nine
times in vain end the connection. Source: Go's net package, which clients and distribution use."""

KEEPALIVE_PROBES: Final = 9

FIRST_ACTIVATED: Final = 3
"""The first descriptor that systemd passes. Source: sd_listen_fds(3)."""

_NO_IPV6: Final = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL))
"""What binding to every IPv6 address fails with where there is no IPv6, or it is switched off."""

_PORTS: Final = range(1 << 16)

_SOCKET_PATH_BYTES: Final = 107
"""Longest path of a unix socket. Source: unix(7)."""

_PROBE_SECONDS: Final = 1.0
"""How long to wait for whoever may answer on a socket file found in our place."""


class ListenError(Exception):
    """The service can't listen where it should; the message says where and why, in one line."""


class ListenOptions(Protocol):
    """The settings under ``http`` that say where to listen."""

    @property
    def addr(self) -> str:
        """``HOST:PORT``, ``:PORT`` or a path."""
        ...

    @property
    def net(self) -> str:
        """``tcp`` or ``unix``."""
        ...


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens.

    Attributes:
        socket: the socket, not inherited by programs that are started.
        path: its file, if it is a unix socket that we made and should remove.
    """

    socket: socket.socket
    path: Path | None = None

    @property
    def name(self) -> str:
        """Where it listens, such as ``[::]:5000``; the port is the real one."""
        return render_address(self.socket.getsockname())

    def close(self) -> None:
        """Stop listening in this process, and remove the socket's file. Repeating is harmless."""
        still_open = self.socket.fileno() >= 0
        self.socket.close()
        if self.path is not None and still_open:
            with suppress(OSError):  # gone already, or the directory is
                self.path.unlink()


def render_address(address: object) -> str:
    """Return a socket's address as Go writes it."""
    match address:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case bytes() | str():
            return os.fsdecode(address)
        case _:
            return str(address)


def open_listeners(
    options: ListenOptions, environment: MutableMapping[str, str]
) -> Sequence[Listener]:
    """Return the sockets to listen on: those that systemd passes, else the one in `options`.

    The variables by which systemd passes sockets are removed from `environment`.

    Raises:
        ListenError: the address is malformed, taken, or not ours to take.
    """
    if activated := _activated(environment):
        return activated
    if options.net == "unix":
        return [_listen_unix(Path(options.addr))]
    return [listen_tcp(options.addr)]


def _activated(environment: MutableMapping[str, str]) -> Sequence[Listener]:
    """Return the sockets that systemd passes. Source: sd_listen_fds(3)."""
    count, process = environment.get("LISTEN_FDS", ""), environment.get("LISTEN_PID", "")
    if process != str(os.getpid()) or not count.isdecimal():
        return []
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    listeners = []
    for descriptor in range(FIRST_ACTIVATED, FIRST_ACTIVATED + int(count)):
        try:
            passed = socket.socket(fileno=descriptor)
            is_listening = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise _refused(f"descriptor {descriptor} from systemd", error) from error
        if not is_listening:
            raise ListenError(f"listen: descriptor {descriptor} from systemd does not listen")
        os.set_inheritable(descriptor, False)  # noqa: FBT003 -- its only parameter
        listeners.append(Listener(passed))
    return listeners


def listen_tcp(address: str) -> Listener:
    """Return a socket that listens at `address`, ``HOST:PORT`` or ``:PORT``.

    Without a host it listens on every address of the machine, IPv6 and IPv4; on machines
    without IPv6 on IPv4 alone. Port 0 is any free port.

    Raises:
        ListenError: see `open_listeners`.
    """
    host, port = split_address(address)
    try:
        if not host:
            return _bind_everywhere(port)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        return _bind_tcp(family, place)
    except OSError as error:
        raise _refused(f"listen tcp {address}: bind", error) from error


def _bind_everywhere(port: int) -> Listener:
    try:
        return _bind_tcp(socket.AF_INET6, ("::", port), dual_stack=True)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return _bind_tcp(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 -- what ":port" means


def split_address(address: str) -> tuple[str, int]:
    """Return the host, without brackets, and the port written in `address`.

    Raises:
        ListenError: it is not ``HOST:PORT``.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise ListenError(f"listen tcp: address {address}: expected HOST:PORT, such as :5000")
    if not port.isascii() or not port.isdecimal() or int(port) not in _PORTS:
        raise ListenError(f"listen tcp: address {address}: invalid port; expected 0 to 65535")
    return host[1:-1] if bracketed else host, int(port)


def _bind_tcp(family: int, place: tuple[object, ...], *, dual_stack: bool = False) -> Listener:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if dual_stack:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit these.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return Listener(listening)


def _listen_unix(path: Path) -> Listener:
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
        raise ListenError(f"listen unix {path}: a socket's path has at most 107 bytes")
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise _refused(f"listen unix {path}: bind", error) from error
    return Listener(listening, path)


def _remove_stale(path: Path) -> None:
    """Remove a socket's file that nobody answers on, as a killed service leaves it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # nothing there, or the bind will say what is wrong
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"listen unix {path}: there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError as error:
            raise _refused(f"listen unix {path}: bind", error) from error
    raise ListenError(f"listen unix {path}: bind: address already in use")


def _refused(where: str, error: OSError) -> ListenError:
    return ListenError(f"{where}: {(error.strerror or str(error)).lower()}")
