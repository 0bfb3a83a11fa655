"""Real clients over TLS, by an authority of the registry's own that they were told of."""

import http.client
import json
import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from tests.parts.addresses import ADDRESS, beyond_the_loopback
from tests.parts.authority import Authority, Pair
from tests.parts.daemon import wait_for
from tests.parts.engines import Containerd, DaemonlessEngine, DockerEngine
from tests.parts.images import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Content,
    Image,
    digests_of,
    image,
    layout_digests,
    manifest,
    write_layout,
)
from tests.parts.programs import CommandFailedError, attempt, run
from tests.parts.registries import RegistryUnderTest


HOST = "registry.test"


class SecureRegistry(RegistryUnderTest):
    """A registry that speaks TLS, by the command that the documents tell of."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        files = folder / "tls"
        run(
            Path(self._program),
            *("tls", "self-signed", "--out", files, "--port", str(self.port)),
            *("--host", HOST, "--host", ADDRESS),
        )
        self.authority = files / "ca.crt"
        self.pair = Pair(files / "server.crt", files / "server.key")
        self.require_clients(None)

    def require_clients(self, authority: Path | None) -> None:
        tls: dict[str, object] = {
            "certificate": str(self.pair.certificate),
            "key": str(self.pair.key),
        }
        if authority is not None:
            tls |= {"clientcas": [str(authority)], "clientauth": "verify-client-cert-if-given"}
        self.configure({"http": {"tls": tls}})

    @property
    @override
    def address(self) -> str:
        return f"{ADDRESS}:{self.port}"

    @property
    def name(self) -> str:
        return f"{HOST}:{self.port}"

    @override
    def answers(self) -> bool:
        context = ssl.create_default_context(cafile=self.authority)
        connection = http.client.HTTPSConnection(ADDRESS, self.port, timeout=2, context=context)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module")
def secure(
    tmp_path_factory: pytest.TempPathFactory, clients: Authority
) -> Iterator[SecureRegistry]:
    registry = SecureRegistry(tmp_path_factory.mktemp("secure"))
    registry.require_clients(clients.certificate)
    with registry:
        yield registry
        assert registry.complaints() == []


@pytest.fixture
def certificates(secure: SecureRegistry, tmp_path: Path) -> Path:
    """A folder as ``--cert-dir`` wants it."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(secure.authority.read_bytes())
    return folder


@beyond_the_loopback
def test_docker_trusts_what_is_in_certs_d(
    secure: SecureRegistry, clients: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    alice = clients.issue("alice")
    known = {
        f"{secure.name}/ca.crt": secure.authority,
        f"{secure.name}/client.cert": alice.certificate,
        f"{secure.name}/client.key": alice.key,
    }
    hosts = {HOST: ADDRESS}
    name = f"{secure.name}/clients/docker:1"
    with DockerEngine(tmp_path_factory.mktemp("t1"), hosts=hosts, certificates=known) as engine:
        pushed = engine.make_image(name, {"a": "over tls\n"}, layers=3)
        engine.docker("push", name)
    only = {f"{secure.name}/ca.crt": secure.authority}
    with DockerEngine(tmp_path_factory.mktemp("t2"), hosts=hosts, certificates=only) as engine:
        engine.docker("pull", name)
        assert engine.image_id(name) == pushed


@beyond_the_loopback
def test_docker_refuses_without(
    secure: SecureRegistry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with DockerEngine(tmp_path_factory.mktemp("t3"), hosts={HOST: ADDRESS}) as engine:
        done = engine.attempt("pull", f"{secure.name}/clients/docker:1")
    assert done.returncode != 0
    assert "certificate signed by unknown authority" in done.stderr


def test_skopeo_and_podman_by_cert_dir(
    secure: SecureRegistry,
    here: DaemonlessEngine,
    elsewhere: DaemonlessEngine,
    certificates: Path,
    tmp_path: Path,
) -> None:
    top = image("tls", layers=3)
    source, name = write_layout(tmp_path / "source", top), f"{secure.address}/clients/skopeo:1"
    here.skopeo(
        *("copy", "--preserve-digests", "--dest-cert-dir", certificates),
        *(f"oci:{source}:latest", f"docker://{name}"),
    )
    elsewhere.skopeo(
        *("copy", "--preserve-digests", "--src-cert-dir", certificates),
        *(f"docker://{name}", f"oci:{tmp_path / 'copy'}:latest"),
    )
    assert layout_digests(tmp_path / "copy") == digests_of(top)
    elsewhere.podman("pull", "--cert-dir", certificates, name)
    elsewhere.podman("push", "--cert-dir", certificates, name, f"{name}-again")
    with pytest.raises(CommandFailedError, match="unknown authority"):
        elsewhere.podman("pull", name)


def test_crane_by_a_file_of_authorities(secure: SecureRegistry, tmp_path: Path) -> None:
    trust = {"SSL_CERT_FILE": str(secure.authority)}
    source = write_layout(tmp_path / "source", image("crane-tls"))
    name = f"{secure.address}/clients/crane:1"
    run("crane", "push", source, name, env=trust)
    assert json.loads(run("crane", "manifest", name, env=trust))["schemaVersion"] == 2
    done = attempt("crane", "manifest", name)
    assert done.returncode != 0
    assert "certificate signed by unknown authority" in done.stderr


def large_layout(folder: Path, *, layers: int, size: int) -> set[str]:
    """Write a layout of an image whose layers are noise; return the digests in it."""
    blobs = [Content(OCI_LAYER, os.urandom(size)) for _ in range(layers)]
    config = Content(OCI_CONFIG, b"{}")
    top = manifest(
        OCI_MANIFEST,
        config=config.descriptor(),
        layers=[blob.descriptor() for blob in blobs],
    )
    whole = Image(top, (config, *blobs))
    write_layout(folder, whole)
    return digests_of(whole)


def test_large_layers_are_pushed_and_pulled_at_once_over_http_2(
    secure: SecureRegistry, tmp_path: Path
) -> None:
    """crane moves four layers at a time, all on one connection."""
    trust = {"SSL_CERT_FILE": str(secure.authority)}
    source, name = tmp_path / "source", f"{secure.address}/clients/large:1"
    digests = large_layout(source, layers=6, size=40 << 20)
    run("crane", "push", source, name, env=trust)
    run("crane", "pull", "--format", "oci", name, tmp_path / "copy", env=trust)
    assert layout_digests(tmp_path / "copy") == digests
    lines = [line for line in secure.log.read_text().splitlines() if "/clients/large/" in line]
    versions = {found[1] for line in lines if (found := re.search(r' HTTP/([0-9.]+)" ', line))}
    assert versions == {"2.0"}


def test_containerd_by_its_hosts_folder(
    secure: SecureRegistry, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = image("containerd-tls", layers=2)
    source, name = write_layout(tmp_path / "source", top), f"{secure.address}/clients/ctr:1"
    run("crane", "push", source, name, env={"SSL_CERT_FILE": str(secure.authority)})
    folder = tmp_path / "hosts" / secure.address
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(
        f'server = "https://{secure.address}"\n\n'
        f'[host."https://{secure.address}"]\n  ca = "{secure.authority}"\n'
    )
    with Containerd(tmp_path_factory.mktemp("ct")) as daemon:
        daemon.ctr("images", "pull", "--hosts-dir", tmp_path / "hosts", name)
        assert digests_of(top) <= set(daemon.ctr("content", "list", "--quiet").split())


def test_a_renewed_certificate_is_taken_between_two_pulls(
    secure: SecureRegistry, tmp_path: Path
) -> None:
    trust = {"SSL_CERT_FILE": str(secure.authority)}
    name = f"{secure.address}/clients/renewed:1"
    run("crane", "push", write_layout(tmp_path / "source", image("renewed")), name, env=trust)
    before = ssl.get_server_certificate((ADDRESS, secure.port))
    run(
        Path(secure._program),  # noqa: SLF001 -- the program under test
        *("tls", "self-signed", "--out", secure.pair.key.parent),
        *("--host", HOST, "--host", ADDRESS),
    )

    def renewed() -> bool:
        return ssl.get_server_certificate((ADDRESS, secure.port)) != before

    wait_for(renewed, "the new certificate")
    run("crane", "manifest", name, env=trust)
