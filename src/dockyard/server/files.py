"""Files that hold keys."""

import os
from pathlib import Path


def write_privately(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` in the place of what is at `path`, at once, never readable beyond `mode`.

    Raises:
        OSError: nothing was changed.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)  # left by a killed process that had our number
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
