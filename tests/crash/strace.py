"""strace on a running worker: what it asks the kernel, and failures put in the kernel's mouth."""

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.parts.daemon import wait_for
from tests.parts.programs import require, require_root


TRACED: Final = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,"
    "copy_file_range,sendfile,splice,fsync,fdatasync,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,mkdir,mkdirat,unlink,unlinkat,rmdir,sendto,sendmsg,sync,syncfs,sync_file_range"
)
"""Everything that changes a file, a directory or what a client knows."""

STRING_BYTES: Final = 600
"""Bytes shown of each buffer: a response's status line, and paths whole."""

_CALL: Final = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(.*)")
_UNFINISHED: Final = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>")
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+|\?)(.*)")


@dataclass(frozen=True, slots=True)
class Call:
    """The begin or the end of a system call.

    Attributes:
        name: such as ``fsync``.
        arguments: as strace wrote them, descriptors with their paths.
        thread: which thread called.
        begins: whether this is the moment of the call.
        succeeded: whether it is the moment of its return, and it did what it should.
    """

    name: str
    arguments: str
    thread: int
    begins: bool
    succeeded: bool


def parse_trace(text: str) -> Iterator[Call]:
    """Yield the begin and the end of every call, in the order in which they happened."""
    waiting: dict[int, tuple[str, str]] = {}
    for line in text.splitlines():
        if match := _UNFINISHED.fullmatch(line):
            waiting[int(match[1])] = match[2], match[3]
            yield Call(match[2], match[3], int(match[1]), begins=True, succeeded=False)
        elif match := _RESUMED.fullmatch(line):
            thread = int(match[1])
            name, arguments = waiting.pop(thread)
            done = not match[4].startswith("-")
            yield Call(name, arguments + match[3], thread, begins=False, succeeded=done)
        elif match := _CALL.fullmatch(line):
            name, arguments, thread = match[2], match[3], int(match[1])
            done = not match[4].startswith("-")
            yield Call(name, arguments, thread, begins=True, succeeded=False)
            yield Call(name, arguments, thread, begins=False, succeeded=done)


@contextlib.contextmanager
def traced(workers: list[int], output: Path, *options: str) -> Iterator[None]:
    """Trace all threads of `workers` into the file `output` while the context lasts."""
    program = require("strace")
    require_root("strace attaches to the workers")
    pids = [word for pid in workers for word in ("-p", str(pid))]
    command = [program, "-f", "-y", "-s", str(STRING_BYTES), "-o", str(output), *options, *pids]
    tracer = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        threads = [task.name for pid in workers for task in Path(f"/proc/{pid}/task").iterdir()]
        wait_for(lambda: all(_is_traced(task) for task in threads), "strace attaches")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)  # it lets go of the workers, which live on
        tracer.wait(20)


def _is_traced(task: str) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{task}/status").read_text()


@contextlib.contextmanager
def failing(
    workers: list[int],
    output: Path,
    calls: str,
    error: str,
    *,
    file: Path | None = None,
    first: int = 1,
) -> Iterator[None]:
    """Let the system calls `calls` of the workers fail with `error`.

    Args:
        file: only calls that concern this file.
        first: the first call of each thread that fails; all after it fail too.
    """
    options = ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}:when={first}+"]
    if file is not None:
        options += ["-P", str(file)]
    with traced(workers, output, *options):
        yield
