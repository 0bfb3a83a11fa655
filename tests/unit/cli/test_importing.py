"""What a start imports, which is most of the time that it takes."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from dockyard.cli.importing import importing
from dockyard.config import DEFAULT_CONFIGURATION


UNUSED = (
    "alembic",
    "cryptography",
    "dockyard.core.collector",
    "dockyard.server.access",
    "dockyard.server.acme",
    "dockyard.server.http2.connection",
    "dockyard.server.issued",
    "dockyard.server.secured",
    "h2",
    "http.server",
    "joserfc",
    "sqlalchemy",
    "unittest",
    "urllib.request",
    "xml",
)
"""What the registry needs only where it is configured, or once it is asked for something."""

BUILD = """
import sys
from pathlib import Path
import dockyard.cli.main, dockyard.cli.serve
from dockyard.config import load
from dockyard.server import service
from dockyard.server.build import build_app
build_app(load(Path(sys.argv[1]), {}).settings)
print("\\n".join(sys.modules))
"""


def test_what_is_not_configured_is_not_imported(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(DEFAULT_CONFIGURATION.replace("/var/lib/registry", str(tmp_path / "data")))
    done = subprocess.run(
        [sys.executable, "-c", BUILD, config], capture_output=True, text=True, check=True
    )
    assert not set(UNUSED) & set(done.stdout.split())


def test_nothing_is_collected_while_importing() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_garbage_is_collected_again_after_an_import_that_failed() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()
