"""Rules that are replaced while the service runs: by a changed file, by SIGHUP, in every worker."""

import base64
import hashlib
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from tests.serving.live_registry import LiveRegistry, live_registry, until, write_configuration


HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
ALICE = "Basic " + base64.b64encode(b"alice:secret").decode()
OPEN = {"rules": [{"repositories": ["**"], "actions": ["*"], "who": ["user:alice"]}]}
CLOSED: dict[str, Any] = {"rules": []}
WORKERS = {"workers": 2}
TAGS = "/v2/a/tags/list"
PROGRAM = Path(sys.executable).with_name("registry")


def auth(folder: Path) -> dict[str, Any]:
    users = folder / "htpasswd"
    users.write_text(f"alice:{HASH}\n")
    return {"htpasswd": {"realm": "registry", "path": str(users)}}


@contextmanager
def ruled(folder: Path) -> Iterator[LiveRegistry]:
    with live_registry(folder, auth=auth(folder), access=OPEN, http=WORKERS) as live:
        yield live


def change(live: LiveRegistry, *, asked: bool = True, **sections: Any) -> None:  # noqa: ANN401
    """Write another configuration, and ask for it to be read, or wait to see it noticed."""
    sections = {"auth": auth(live.directory), "access": OPEN, "http": WORKERS} | sections
    write_configuration(live.directory, **sections)
    if asked:
        live.process.send_signal(signal.SIGHUP)


def status(live: LiveRegistry, path: str = TAGS, authorization: str = ALICE) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=5)
    connection.request("GET", path, headers={"Authorization": authorization})
    found = connection.getresponse().status
    connection.close()
    return found


def everywhere(live: LiveRegistry) -> set[int]:
    return {status(live) for _ in range(12)}


@pytest.mark.parametrize("asked", [True, False], ids=["signal", "file"])
def test_new_rules_are_taken_by_every_worker_while_a_push_goes_on(
    tmp_path: Path, *, asked: bool
) -> None:
    blob = b"x" * 1000
    digest = "sha256:" + hashlib.sha256(blob).hexdigest()
    with ruled(tmp_path) as live:
        workers = live.workers()
        assert everywhere(live) == {404}
        push = http.client.HTTPConnection("127.0.0.1", live.port, timeout=10)
        push.putrequest("POST", f"/v2/a/blobs/uploads/?digest={digest}")
        push.putheader("Authorization", ALICE)
        push.putheader("Content-Length", str(len(blob)))
        push.endheaders(blob[:500])
        until(lambda: any((tmp_path / "data").rglob("_uploads/*/data")))
        change(live, asked=asked, access=CLOSED)
        until(lambda: everywhere(live) == {403}, seconds=20)
        push.send(blob[500:])
        assert push.getresponse().status == 201
        push.close()
        assert live.workers() == workers
        assert live.log.count("rules replaced") == 1


def test_a_token_and_a_password_that_were_good_are_looked_at_again(tmp_path: Path) -> None:
    with ruled(tmp_path) as live:
        connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=5)
        scope = "repository:a:pull"
        connection.request("GET", f"/auth/token?scope={scope}", headers={"Authorization": ALICE})
        token = "Bearer " + connection.getresponse().read().decode().split('"')[3]
        assert status(live, authorization=token) == 404
        change(live, access=CLOSED)
        until(lambda: everywhere(live) == {403})
        # On a connection that was open before, too.
        connection.request("GET", TAGS, headers={"Authorization": token})
        assert connection.getresponse().status == 403
        connection.close()


def test_a_worker_that_replaces_another_has_the_new_rules(tmp_path: Path) -> None:
    with ruled(tmp_path) as live:
        change(live, access=CLOSED)
        until(lambda: everywhere(live) == {403})
        (tmp_path / "config.yml").write_text("version: nonsense\n")
        for worker in live.workers():
            os.kill(worker, signal.SIGKILL)
        until(lambda: live.log.count("a worker ended and is replaced") == 2)
        until(lambda: len(live.workers()) == 2)
        assert everywhere(live) == {403}


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"access": {"rules": [{"repositories": ["**"], "who": ["x"]}]}}, "access.rules[0].who[0]"),
        ({"access": CLOSED, "http": {"workers": 3}}, "these keys need a restart"),
        ({"access": CLOSED, "http": {"workers": 3}}, "keys=http.workers"),
    ],
)
def test_what_can_t_be_taken_is_told_and_changes_nothing(
    tmp_path: Path, sections: dict[str, Any], told: str
) -> None:
    with ruled(tmp_path) as live:
        change(live, **sections)
        until(lambda: "rules not replaced" in live.log)
        assert told in live.log
        assert everywhere(live) == {404}
        assert "Traceback" not in live.log
        change(live, access=CLOSED)
        until(lambda: everywhere(live) == {403})


def test_rules_that_vanish_open_nothing(tmp_path: Path) -> None:
    with live_registry(tmp_path, access=CLOSED) as live:
        write_configuration(tmp_path)
        live.process.send_signal(signal.SIGHUP)
        until(lambda: "keys=access" in live.log)
        assert status(live, authorization="") == 403


def test_rules_can_come_where_there_were_none(tmp_path: Path) -> None:
    with live_registry(tmp_path) as live:
        assert status(live, authorization="") == 404
        write_configuration(tmp_path, access=CLOSED)
        live.process.send_signal(signal.SIGHUP)
        until(lambda: status(live, authorization="") == 403)


def test_a_key_ends_with_the_robot_it_stands_for(tmp_path: Path) -> None:
    rules = [{"repositories": ["**"], "actions": ["*"], "who": ["authenticated"]}]
    with live_registry(
        tmp_path, auth=auth(tmp_path), access={"robots": {"ci": {}}, "rules": rules}, http=WORKERS
    ) as live:
        command: list[str] = [str(PROGRAM), "key", "create", "build", "--owner", "robot$ci"]
        command += ["--config", str(tmp_path / "config.yml")]
        secret = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        robot = "Basic " + base64.b64encode(f"robot$ci:{secret}".encode()).decode()
        assert {status(live, authorization=robot) for _ in range(12)} == {404}
        change(live, access={"robots": {"other": {}}, "rules": rules})
        until(lambda: {status(live, authorization=robot) for _ in range(4)} <= {401, 429})
        change(live, access={"robots": {"ci": {}}, "rules": rules})
        until(lambda: status(live, authorization=robot) == 404, seconds=20)
