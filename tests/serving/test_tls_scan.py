"""What a scanner finds in the defaults of TLS: it offers what no library of today does any more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests.parts.authority import Authority, Pair
from tests.parts.programs import run
from tests.serving.live_registry import LiveRegistry, live_registry


FLAWS: Final = ("sslv2", "ssl-heartbleed", "ssl-ccs-injection", "ssl-poodle", "ssl-dh-params")
"""Scripts of nmap that are silent where there is nothing to tell."""

TLS_1_3: Final = {
    "TLS_AKE_WITH_AES_128_GCM_SHA256",
    "TLS_AKE_WITH_AES_256_GCM_SHA384",
    "TLS_AKE_WITH_CHACHA20_POLY1305_SHA256",
}
"""The suites of TLS 1.3, as nmap calls them."""


@pytest.fixture(scope="module", params=["ECDSA", "RSA"])
def kind(request: pytest.FixtureRequest) -> str:
    """What the key of the registry's certificate is."""
    return str(request.param)


@pytest.fixture(scope="module")
def registry(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRegistry]:
    """A registry with a certificate and no other setting of TLS."""
    folder = tmp_path_factory.mktemp("scanned")
    pair = _rsa(folder) if kind == "RSA" else Authority(folder / "authority").issue("registry")
    tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
    with live_registry(folder, http={"tls": tls}) as live:
        yield live


def _rsa(folder: Path) -> Pair:
    pair = Pair(folder / "rsa.crt", folder / "rsa.key")
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=localhost", "-out", pair.certificate, "-keyout", pair.key),
    )
    return pair


def scan(registry: LiveRegistry, *scripts: str) -> dict[str, ET.Element]:
    """Return what scripts of nmap found, by their names; those that found nothing are left out."""
    port = ("-sT", "-Pn", "-n", "-p", str(registry.port), "127.0.0.1")
    report = ET.fromstring(run("nmap", *port, "--script", ",".join(scripts), "-oX", "-"))
    state = report.find(".//port/state")
    assert state is not None
    assert state.get("state") == "open"
    return {script.get("id", ""): script for script in report.iterfind(".//port/script")}


def elements(table: ET.Element, key: str) -> set[str]:
    return {element.text or "" for element in table.iterfind(f".//elem[@key='{key}']")}


def test_only_good_suites_of_tls_1_2_and_1_3_are_taken(registry: LiveRegistry, kind: str) -> None:
    found = scan(registry, "ssl-enum-ciphers")["ssl-enum-ciphers"]
    versions = {table.get("key", ""): table for table in found.iterfind("table")}
    assert set(versions) == {"TLSv1.2", "TLSv1.3"}
    assert elements(versions["TLSv1.3"], "name") == TLS_1_3
    assert elements(versions["TLSv1.2"], "name") == {
        f"TLS_ECDHE_{kind}_WITH_AES_128_GCM_SHA256",
        f"TLS_ECDHE_{kind}_WITH_AES_256_GCM_SHA384",
        f"TLS_ECDHE_{kind}_WITH_CHACHA20_POLY1305_SHA256",
    }
    assert elements(found, "strength") == {"A"}
    assert elements(found, "kex_info") == {"ecdh_x25519"}
    assert not found.findall(".//table[@key='warnings']")
    compressors = versions["TLSv1.2"].findall("table[@key='compressors']/elem")
    assert [each.text for each in compressors] == ["NULL"]


def test_no_known_flaw_is_found(registry: LiveRegistry) -> None:
    assert scan(registry, *FLAWS) == {}
