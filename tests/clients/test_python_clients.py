"""Clients written in Python: oras with its own test suite, and dxf, as library and as command."""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import dxf
import oras.client
import pytest

from tests.parts.programs import attempt, run
from tests.parts.registries import RegistryUnderTest


NOT_RUN = "not chunked_push and not get_many_tags and not ssl_no_verify and not ssl_verify"
"""Cases of oras's suite left out: one moves 16 GiB, the others call the Internet."""


def test_oras_pulls_what_it_pushed(
    registry: RegistryUnderTest, repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("artifact.txt").write_text("pushed by oras for Python\n")
    target = f"{registry.address}/{repository}:1"
    client = oras.client.OrasClient(hostname=registry.address, insecure=True)
    assert client.push(target=target, files=["artifact.txt"]).status_code == 201
    pulled = client.pull(target=target, outdir=str(tmp_path / "pulled"))
    assert [Path(path).read_text() for path in pulled] == ["pushed by oras for Python\n"]
    assert client.get_tags(f"{registry.address}/{repository}") == ["1"]
    assert client.delete_tags(f"{registry.address}/{repository}", "1") == ["1"]


def test_the_suite_of_oras_passes(
    registry: RegistryUnderTest,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    # A copy, because it pushes only files below the working directory.
    left_out = shutil.ignore_patterns(
        "auth", "__pycache__"
    )  # tests of cloud logins, without a registry
    shutil.copytree(Path(oras.__file__).parent / "tests", tmp_path / "suite", ignore=left_out)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  with_auth: its own\n")
    done = attempt(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", NOT_RUN, "suite"),
        env={
            "ORAS_HOST": "localhost",
            "ORAS_PORT": str(registry.port),
            "ORAS_USER": "myuser",
            "ORAS_PASS": "mypass",
        },
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    record_testsuite_property("oras.tests", done.stdout.splitlines()[-1])
    assert int(passed[1]) >= 55


def pulled(client: dxf.DXF, digest: str) -> bytes:
    """Return a blob's bytes, after a look at the size that is said to be theirs."""
    chunks, size = client.pull_blob(digest, size=True)
    assert isinstance(size, int)
    body = b"".join(bytes(chunk) for chunk in chunks)
    assert size == len(body)
    return body


def test_dxf_pulls_what_it_pushed(
    registry: RegistryUnderTest, repository: str, tmp_path: Path
) -> None:
    body = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(body)
    client = dxf.DXF(registry.address, repository, insecure=True)
    digest = client.push_blob(str(tmp_path / "file"))
    assert digest == f"sha256:{hashlib.sha256(body).hexdigest()}"
    client.set_alias("alias", digest)
    other = dxf.DXF(registry.address, f"{repository}/other", insecure=True)
    other.mount_blob(repository, digest)
    for each in (client, other):
        assert pulled(each, digest) == body
    assert client.get_alias("alias") == [digest]
    assert client.list_aliases() == ["alias"]
    assert repository in client.list_repos()


def test_dxf_sends_a_blob_of_unknown_length(registry: RegistryUnderTest, repository: str) -> None:
    pieces = [os.urandom(100_000) for _ in range(5)]
    digest = f"sha256:{hashlib.sha256(b''.join(pieces)).hexdigest()}"
    client = dxf.DXF(registry.address, repository, insecure=True)
    assert client.push_blob(data=iter(pieces), digest=digest) == digest
    assert pulled(client, digest) == b"".join(pieces)


def test_the_dxf_command_pulls_what_it_pushed(
    registry: RegistryUnderTest, repository: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("pushed by the command dxf\n")
    env = {"DXF_HOST": registry.address, "DXF_INSECURE": "1"}
    command = Path(sys.executable).with_name("dxf")
    digest = run(command, "push-blob", repository, tmp_path / "file", "@alias", env=env).strip()
    assert run(command, "get-alias", repository, "alias", env=env).strip() == digest
    assert run(command, "pull-blob", repository, "@alias", env=env) == "pushed by the command dxf\n"
    assert run(command, "list-aliases", repository, env=env).split() == ["alias"]
    assert repository in run(command, "list-repos", env=env).split()
    run(command, "del-alias", repository, "alias", env=env)
    assert attempt(command, "pull-blob", repository, "@alias", env=env).returncode != 0
