"""The whole program: its start, its workers, its end."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.serving.live_registry import (
    DEADLINE,
    LiveRegistry,
    command,
    live_registry,
    until,
    write_configuration,
)


def get(live: LiveRegistry, path: str = "/v2/") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=DEADLINE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def exists(process: int) -> bool:
    """Return whether a process runs; one that ended and was not yet taken away does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env={**os.environ, **environment},
    )


class TestCommandLine:
    def test_alone_it_prints_its_usage(self) -> None:
        done = run()
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: registry [OPTIONS]")
        assert "`serve` stores and distributes Docker images" in done.stdout

    @pytest.mark.parametrize("option", ["-v", "--version"])
    def test_the_version_is_three_words_as_scripts_expect(self, option: str) -> None:
        done = run(option)
        assert done.returncode == 0
        assert re.fullmatch(
            r"registry github\.com/distribution/distribution/v3 v3\.1\.1\+dockyard\.\S+\n",
            done.stdout,
        )

    @pytest.mark.parametrize("arguments", [("fly",), ("serve", "a", "b"), ("serve", "--fast")])
    def test_mistakes_exit_with_1(self, arguments: tuple[str, ...]) -> None:
        done = run(*arguments)
        assert done.returncode == 1
        assert done.stdout == ""
        assert "Error: " in done.stderr

    def test_a_module_is_the_same_program(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "dockyard", "--version"], capture_output=True, check=True
        )
        assert b"github.com/distribution/distribution/v3 v3" in done.stdout

    def test_a_wrong_configuration_is_told_with_the_usage(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yml"
        path.write_text("version: 0.2\n")
        done = run("serve", str(path))
        assert done.returncode == 1
        assert done.stderr.startswith("configuration error: ")
        assert "Usage: registry serve" in done.stderr
        assert "Traceback" not in done.stderr


class TestRefusedStarts:
    """One line, exit status 1, in under a second."""

    @staticmethod
    def refused(directory: Path, **sections: dict[str, Any]) -> str:
        path = write_configuration(directory, **sections)
        began = time.monotonic()
        done = run("serve", str(path))
        took = time.monotonic() - began
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert "level=fatal" in done.stderr
        assert took < 2.0  # 0.5 alone on the machine
        return done.stderr

    def test_port_taken(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            line = self.refused(tmp_path, http={"addr": address})
        assert f"listen tcp {address}: bind: address already in use" in line

    @pytest.mark.parametrize(
        "address", ["5000", "127.0.0.1", "::1:5000", ":99999", ":x", "127.0.0.1:-1", "192.0.2.1:0"]
    )
    def test_address_that_is_none(self, tmp_path: Path, address: str) -> None:
        assert address in self.refused(tmp_path, http={"addr": address})

    def test_root_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        root = str(tmp_path / "file" / "root")
        line = self.refused(tmp_path, storage={"filesystem": {"rootdirectory": root}})
        assert f"can't write to {root}: not a directory" in line

    def test_socket_path_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        address = str(tmp_path / "file")
        line = self.refused(tmp_path, http={"net": "unix", "addr": address})
        assert "there is a file that is no socket" in line


class TestListening:
    def test_every_address_is_listened_on_without_a_host(self, tmp_path: Path) -> None:
        with live_registry(tmp_path, http={"addr": ":0"}) as live:
            assert live.address == f"[::]:{live.port}"
            for host in ("127.0.0.1", "::1"):
                with socket.create_connection((host, live.port), timeout=DEADLINE):
                    pass
            assert get(live)[0] == 200

    def test_ipv6_in_brackets(self, tmp_path: Path) -> None:
        with live_registry(tmp_path, http={"addr": "[::1]:0"}) as live:
            assert live.address == f"[::1]:{live.port}"

    def test_unix_socket_has_the_umask_s_mode_and_goes_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "registry.sock"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        with live_registry(tmp_path, http={"net": "unix", "addr": str(path)}) as live:
            assert live.address == str(path)
            assert path.stat().st_mode & 0o777 == 0o777 & ~_umask()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
            second = run("serve", str(tmp_path / "config.yml"))
            assert second.returncode == 1
            assert "address already in use" in second.stderr
            assert live.stop() == 0
        assert not path.exists()

    def test_sockets_from_systemd_come_first(self, tmp_path: Path) -> None:
        path = write_configuration(tmp_path, http={"addr": "127.0.0.1:1"})
        script = (
            "import os, sys\n"
            "os.dup2(int(sys.argv[1]), 3)\n"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
            "os.execv(sys.argv[2], sys.argv[2:])\n"
        )
        with socket.create_server(("127.0.0.1", 0)) as listening:
            descriptor = listening.fileno()
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(descriptor), *command("serve", str(path))],
                pass_fds=[descriptor],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                connection = http.client.HTTPConnection(
                    "127.0.0.1", listening.getsockname()[1], timeout=DEADLINE
                )
                connection.request("GET", "/v2/")
                assert connection.getresponse().status == 200
                connection.close()
            finally:
                process.terminate()
                assert process.wait(DEADLINE) == 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class TestWorkers:
    def test_a_killed_worker_is_replaced_while_the_others_serve(self, tmp_path: Path) -> None:
        with live_registry(tmp_path, http={"workers": 3}) as live:
            first = set(until(lambda: live.workers() if len(live.workers()) == 3 else []))
            victim = min(first)
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in live.workers())
            assert [get(live)[0] for _ in range(20)] == [200] * 20
            until(lambda: len(live.workers()) == 3)
            assert "killed by SIGKILL" in live.log
            assert live.log.count("listening on") == 1

    def test_no_new_connection_is_lost_when_workers_are_killed(self, tmp_path: Path) -> None:
        """Requests on a killed worker's connections are lost with it; new ones never are."""
        with live_registry(tmp_path, http={"workers": 2}) as live:
            ended = threading.Event()
            outcomes: list[int] = []

            def ask() -> None:
                while not ended.is_set():
                    # Not sent before the connection is made: it may be lost only within a worker.
                    outcomes.append(_ask_twice(live))

            with ThreadPoolExecutor(4) as pool:
                asking = [pool.submit(ask) for _ in range(4)]
                for _ in range(3):
                    until(lambda: len(live.workers()) == 2)
                    os.kill(live.workers()[0], signal.SIGKILL)
                    before = len(outcomes)
                    until(lambda before=before: len(outcomes) > before + 50)  # type: ignore[misc]
                ended.set()
                for future in asking:
                    future.result()
            assert set(outcomes) == {200}

    def test_a_service_whose_only_worker_dies_keeps_connections_waiting(
        self, registry: LiveRegistry
    ) -> None:
        os.kill(registry.workers()[0], signal.SIGKILL)
        assert get(registry)[0] == 200

    def test_workers_end_when_their_parent_is_killed(self, tmp_path: Path) -> None:
        with live_registry(tmp_path, http={"workers": 2}) as live:
            workers = until(lambda: live.workers() if len(live.workers()) == 2 else [])
            live.process.kill()
            live.process.wait()
            until(lambda: not any(exists(worker) for worker in workers))

    def test_memory_is_one_worker_s_affair(self, tmp_path: Path) -> None:
        with live_registry(
            tmp_path, storage={"filesystem": None, "inmemory": {}}, http={"workers": 2}
        ) as live:
            assert "storage.inmemory can't be shared" in live.log
            assert len(live.workers()) == 1


def _ask_twice(live: LiveRegistry) -> int:
    """Ask once more if the connection was lost with the worker that had it."""
    for _ in range(5):
        try:
            return get(live)[0]
        except (ConnectionResetError, http.client.RemoteDisconnected, BrokenPipeError):
            continue
    return 0


@contextmanager
def upload(live: LiveRegistry) -> Iterator[tuple[http.client.HTTPConnection, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=DEADLINE)
    connection.request("POST", "/v2/a/b/blobs/uploads/")
    response = connection.getresponse()
    response.read()
    assert response.status == 202
    location = response.headers["Location"]
    yield connection, re.sub(r"^https?://[^/]*", "", location)
    connection.close()


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_push_in_flight_finishes(self, tmp_path: Path, number: int) -> None:
        with live_registry(tmp_path, http={"draintimeout": "8s", "workers": 2}) as live:
            with upload(live) as (connection, location):
                connection.putrequest("PATCH", location)
                connection.putheader("Content-Length", "6")
                connection.endheaders()
                connection.send(b"abc")
                until(lambda: any((tmp_path / "data").rglob("_uploads/*/data")))
                live.process.send_signal(number)
                until(lambda: _refuses(live))
                connection.send(b"def")
                response = connection.getresponse()
                assert response.status == 202
                assert response.headers["Range"] == "0-5"
                assert response.headers["Connection"] == "close"
                response.read()
            assert live.process.wait(3.0) == 0

    def test_a_request_over_the_drain_time_is_cut_off(self, tmp_path: Path) -> None:
        with (
            live_registry(tmp_path, http={"draintimeout": "300ms"}) as live,
            upload(live) as (connection, location),
        ):
            connection.putrequest("PATCH", location)
            connection.putheader("Content-Length", "6")
            connection.endheaders()
            connection.send(b"abc")
            began = time.monotonic()
            assert live.stop() == 0
            assert 0.2 < time.monotonic() - began < 3.0

    def test_without_a_drain_time_it_ends_at_once(self, registry: LiveRegistry) -> None:
        with upload(registry) as (connection, location):
            connection.putrequest("PATCH", location)
            connection.putheader("Content-Length", "6")
            connection.endheaders()
            began = time.monotonic()
            assert registry.stop() == 0
            assert time.monotonic() - began < 1.5

    def test_a_second_signal_ends_it_at_once(self, tmp_path: Path) -> None:
        with (
            live_registry(tmp_path, http={"draintimeout": "1h"}) as live,
            upload(live) as (connection, location),
        ):
            connection.putrequest("PATCH", location)
            connection.putheader("Content-Length", "6")
            connection.endheaders()
            connection.send(b"abc")
            until(lambda: any((tmp_path / "data").rglob("_uploads/*/data")))
            live.process.send_signal(signal.SIGTERM)
            until(lambda: _refuses(live))
            assert live.process.poll() is None
            assert live.stop(seconds=3.0) == 0

    def test_sighup_ends_nothing(self, registry: LiveRegistry) -> None:
        workers = registry.workers()
        registry.process.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP: certificates and rules are read anew" in registry.log)
        assert get(registry)[0] == 200
        assert registry.workers() == workers


def _refuses(live: LiveRegistry) -> bool:
    try:
        socket.create_connection(("127.0.0.1", live.port), timeout=1.0).close()
    except OSError:
        return True
    return False


class TestLogs:
    def test_json_has_distribution_s_field_names(self, tmp_path: Path) -> None:
        fields = {"service": "registry", "environment": "test"}
        with live_registry(tmp_path, log={"formatter": "json", "fields": fields}) as live:
            status, _ = get(live, "/v2/a/b/manifests/latest?x=%0a")
            assert status == 404
            line = until(lambda: _line(live.log, "response completed with error"))
        assert line["err.code"] == "manifest unknown"
        assert line["level"] == "error"
        assert line["service"] == "registry"
        assert line["vars.name"] == "a/b"
        assert line["vars.reference"] == "latest"
        assert line["http.request.uri"] == "/v2/a/b/manifests/latest?x=%0a"
        assert line["http.response.status"] == 404
        assert {"instance.id", "version", "http.request.id", "http.response.duration"} <= set(line)

    def test_the_access_log_is_combined_and_on_standard_output(
        self, registry: LiveRegistry
    ) -> None:
        get(registry)
        line = until(lambda: registry.access_log)
        assert re.fullmatch(
            r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
            r'"GET /v2/ HTTP/1\.1" 200 2 "" ""\n',
            line,
        )

    def test_the_access_log_can_be_switched_off(self, tmp_path: Path) -> None:
        with live_registry(tmp_path, log={"accesslog": {"disabled": True}}) as live:
            get(live)
            until(lambda: "response completed" in live.log)
            assert live.access_log == ""

    def test_findings_of_the_configuration_are_warnings(self, tmp_path: Path) -> None:
        with live_registry(tmp_path, http={"adr": ":1"}) as live:
            assert re.search(r'level=warning msg="[^"]*adr', live.log)


def _line(log: str, message: str) -> dict[str, Any] | None:
    for text in log.splitlines():
        line: dict[str, Any] = json.loads(text)
        if line["msg"] == message:
            return line
    return None
