import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from dockyard.server.listeners import (
    ListenError,
    listen_tcp,
    open_listeners,
    render_address,
    split_address,
)


@dataclass
class Options:
    addr: str
    net: str = "tcp"


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (":5000", ("", 5000)),
            ("localhost:0", ("localhost", 0)),
            ("0.0.0.0:65535", ("0.0.0.0", 65535)),
            ("[::1]:5000", ("::1", 5000)),
            ("[fe80::1%lo]:1", ("fe80::1%lo", 1)),
        ],
    )
    def test_host_and_port_are_split(self, text: str, expected: tuple[str, int]) -> None:
        assert split_address(text) == expected

    @pytest.mark.parametrize(
        "text", ["", "5000", "a", "a:", "::1", "::1:5000", ":-1", ":65536", ":٣", ":1_0", "a:b:1"]
    )
    def test_other_texts_are_named_in_the_error(self, text: str) -> None:
        with pytest.raises(ListenError, match=r"listen tcp: address") as error:
            split_address(text)
        assert text in str(error.value)

    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            (("::", 5000, 0, 0), "[::]:5000"),
            (("127.0.0.1", 1), "127.0.0.1:1"),
            ("/run/registry.sock", "/run/registry.sock"),
            (b"\0abstract", "\0abstract"),
        ],
    )
    def test_they_are_rendered_as_go_does(self, address: object, expected: str) -> None:
        assert render_address(address) == expected


class TestTCP:
    def test_clients_that_vanish_are_found_by_the_kernel(self) -> None:
        listener = listen_tcp("127.0.0.1:0")
        assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        listener.close()
        listener.close()

    def test_programs_that_are_started_do_not_inherit_it(self) -> None:
        listener = listen_tcp("127.0.0.1:0")
        assert not os.get_inheritable(listener.socket.fileno())
        listener.close()

    def test_a_port_taken_on_every_address_is_told(self) -> None:
        listener = listen_tcp(":0")
        port = listener.socket.getsockname()[1]
        with pytest.raises(ListenError, match=f"listen tcp :{port}: bind: address already in use"):
            listen_tcp(f":{port}")
        listener.close()

    def test_without_ipv6_it_is_ipv4(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class KernelWithoutIPv6(socket.socket):
            def __init__(self, family: int = -1, kind: int = -1) -> None:
                if family == socket.AF_INET6:
                    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
                super().__init__(family, kind)

        monkeypatch.setattr(socket, "socket", KernelWithoutIPv6)
        listener = listen_tcp(":0")
        assert listener.name.startswith("0.0.0.0:")
        listener.close()

    def test_an_unknown_host_is_one_line(self) -> None:
        with pytest.raises(ListenError, match=r"listen tcp no-such-host\.invalid:1: bind: "):
            listen_tcp("no-such-host.invalid:1")


class TestUnix:
    def test_a_path_too_long_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ListenError, match="at most 107 bytes"):
            open_listeners(Options(str(tmp_path / ("a" * 120)), "unix"), {})

    def test_a_directory_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ListenError, match="no such file or directory"):
            open_listeners(Options(str(tmp_path / "no" / "s"), "unix"), {})

    def test_a_socket_that_answers_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        (listener,) = open_listeners(Options(str(path), "unix"), {})
        with pytest.raises(ListenError, match="address already in use"):
            open_listeners(Options(str(path), "unix"), {})
        assert path.exists()
        listener.close()
        assert not path.exists()


class TestActivation:
    def test_variables_for_another_process_are_ignored(self) -> None:
        environment = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}
        (listener,) = open_listeners(Options("127.0.0.1:0"), environment)
        assert listener.name.startswith("127.0.0.1:")
        listener.close()
