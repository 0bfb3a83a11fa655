"""`registry serve --welcome`, which is what `make serve` runs."""

import signal
import subprocess
from pathlib import Path

from tests.serving.live_registry import DEADLINE, command, write_configuration


def test_it_says_where_it_serves_and_what_to_try(tmp_path: Path) -> None:
    arguments = ("serve", "--welcome", str(write_configuration(tmp_path)))
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        where, what = process.stdout.readline(), process.stdout.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    assert where.startswith("Dockyard serves on http://localhost:")
    assert where.rstrip().endswith(f"keeps its images in {tmp_path / 'data'}")
    name = where.split()[3].removeprefix("http://")
    assert what.rstrip() == f"Try: docker tag IMAGE {name}/IMAGE && docker push {name}/IMAGE"
