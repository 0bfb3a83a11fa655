"""The audit log of a running service: several workers, SIGHUP, a start without a place for it."""

import http.client
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.serving.live_registry import (
    LiveRegistry,
    command,
    live_registry,
    until,
    write_configuration,
)


def audit(folder: Path, **more: object) -> dict[str, Any]:
    return {"enabled": True, "path": str(folder / "audit.log"), **more}


def delete(live: LiveRegistry, count: int) -> None:
    for number in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=5)
        connection.request("DELETE", f"/v2/a/manifests/{number}")
        assert connection.getresponse().status == 404
        connection.close()


def references(folder: Path) -> list[str]:
    lines = [line for path in folder.glob("audit.log*") for line in path.read_text().splitlines()]
    return sorted((json.loads(line)["reference"] for line in lines if line), key=int)


def test_all_workers_write_to_one_log_that_is_rotated(tmp_path: Path) -> None:
    settings = audit(tmp_path, maxsize=2000, maxfiles=100)
    with live_registry(tmp_path, audit=settings, http={"workers": 2}) as live:
        delete(live, 60)
        assert references(tmp_path) == [str(number) for number in range(60)]
        assert len(list(tmp_path.glob("audit.log.*"))) > 2


def test_it_is_opened_anew_on_sighup(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    with live_registry(tmp_path, audit=audit(tmp_path)) as live:
        delete(live, 1)
        path.replace(tmp_path / "moved")
        live.process.send_signal(signal.SIGHUP)
        until(path.exists)
        assert path.read_text() == ""


def test_without_a_place_for_it_nothing_starts(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "audit.log"
    written = write_configuration(tmp_path, audit={"enabled": True, "path": str(path)})
    done = subprocess.run(
        command("serve", str(written)), capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"audit.path: can't write to {path}: no such file or directory; name another" in line
