"""A thousand wrong passwords a second: pulls with a good token go on, and nobody is locked out."""

import base64
import http.client
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import bcrypt
import pytest

from tests.live import LiveRegistry
from tests.parts.images import image
from tests.parts.programs import environment, require
from tests.registry_client import RegistryClient


SECONDS: Final = 30
GUESSES: Final = 1000
"""A second."""

CONNECTIONS: Final = 100
PAUSE: Final = 1000 * CONNECTIONS // GUESSES - 25
"""Milliseconds between an answer and the next guess of a connection: answers take their time."""

GUESSING: Final = f"""\
wrk.headers["Authorization"] = "Basic {base64.b64encode(b"alice:guess").decode()}"
function delay() return {PAUSE} end
"""
COST: Final = 10
"""Of the hashes: what `registry user add` and `htpasswd -B` take, or more."""

NAME: Final = "load/guessed"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[LiveRegistry]:
    users = tmp_path / "htpasswd"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(COST)).decode()
    users.write_text(f"alice:{hashed}\n")
    rules = [{"repositories": ["**"], "actions": ["*"], "who": ["user:alice"]}]
    settings = {
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "http": {"workers": 2},
        "auth": {"htpasswd": {"realm": "registry", "path": str(users)}},
        "access": {"rules": rules},
    }
    with LiveRegistry(tmp_path / "registry", settings=settings) as registry:
        yield registry


def ask(registry: LiveRegistry, path: str, password: str, source: str) -> tuple[int, bytes]:
    """Ask for `path` as alice from the address `source`; return status and body."""
    host, _, port = registry.address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), 10, source_address=(source, 0))
    credentials = base64.b64encode(f"alice:{password}".encode()).decode()
    connection.request("GET", path, headers={"Authorization": f"Basic {credentials}"})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def pulls(registry: LiveRegistry, token: str, seconds: int) -> float:
    """Return how many manifests a second are pulled with a token."""
    url = f"http://{registry.address}/v2/{NAME}/manifests/v1"
    command = [require("wrk"), "-t1", "-c16", f"-d{seconds}"]
    command += ["-H", f"Authorization: Bearer {token}", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    assert "Non-2xx" not in done.stdout, done.stdout
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", done.stdout)[0])


@contextmanager
def guessing(registry: LiveRegistry, folder: Path) -> Iterator[list[str]]:
    """Guess alice's password all the while; what is yielded has the report at the end."""
    script = folder / "guess.lua"
    script.write_text(GUESSING)
    command = [require("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS + 2}"]
    command += ["-s", str(script), f"http://{registry.address}/v2/"]
    report: list[str] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        yield report
        report.append(process.communicate(timeout=SECONDS)[0])
    finally:
        process.kill()
        process.wait()


def test_pulls_keep_half_their_throughput_and_others_log_in(
    guarded: LiveRegistry, tmp_path: Path
) -> None:
    pushed = image("guessed")
    login = {"Authorization": f"Basic {base64.b64encode(b'alice:secret').decode()}"}
    with RegistryClient(guarded.address) as client:
        for blob in pushed.blobs:
            path = f"/v2/{NAME}/blobs/uploads/?digest={blob.digest}"
            sent = login | {"Content-Type": "application/octet-stream"}
            client.request("POST", path, body=blob.body, headers=sent).expect(201)
        kind = login | {"Content-Type": pushed.manifest.media_type}
        path = f"/v2/{NAME}/manifests/v1"
        client.request("PUT", path, body=pushed.manifest.body, headers=kind).expect(201)
        scope = f"/auth/token?scope=repository:{NAME}:pull"
        token = str(client.request("GET", scope, headers=login).expect(200).json()["token"])
    alone = pulls(guarded, token, 5)
    with guessing(guarded, tmp_path) as report:
        began = time.monotonic()
        beside = pulls(guarded, token, SECONDS - 4)
        # Not what is remembered: another login name would be; so from elsewhere, in each worker.
        found = [ask(guarded, "/v2/", "secret", f"127.0.0.{each}")[0] for each in range(2, 10)]
        wrong = ask(guarded, "/v2/", "guess", "127.0.0.1")[0]
        assert time.monotonic() - began < SECONDS + 2
    # Once more: when something else on the machine began meanwhile, this tells.
    alone = min(alone, pulls(guarded, token, 5))
    guesses = int(re.findall(r"(\d+) requests in", report[0])[0])
    refused = int(re.findall(r"Non-2xx or 3xx responses: (\d+)", report[0])[0])
    rate = guesses / (SECONDS + 2)
    print(f"\n{alone:.0f} pulls/s alone, {beside:.0f}/s beside {rate:.0f} guesses/s")
    assert rate > 0.8 * GUESSES
    assert refused == guesses
    assert found == [200] * 8
    assert wrong == 429
    assert beside > alone / 2
