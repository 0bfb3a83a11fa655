"""The OCI conformance suite, as published and with everything on: nothing may fail and nothing may
be skipped.
"""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.parts.programs import attempt
from tests.parts.registries import RegistryUnderTest


SUITE_SECONDS: Final = 120.0
"""How long one run may take: 2 to 4 s is usual."""

TOLD: Final = 20_000
"""Characters shown of what the suite says about cases that did not pass."""

EVERYTHING: Final[Mapping[str, str]] = {
    "OCI_VERSION": "dev",
    "OCI_API_BLOBS_DIGEST_HEADER": "true",
    "OCI_API_BLOBS_MOUNT_ANONYMOUS": "true",
    "OCI_API_BLOBS_UPLOAD_CANCEL": "true",
    "OCI_API_MANIFESTS_DIGEST_HEADER": "true",
    "OCI_API_MANIFESTS_TAG_PARAM": "true",
    "OCI_API_REFERRER": "true",
    "OCI_DATA_SHA512": "true",
    "OCI_DATA_SPARSE": "true",
    "OCI_DATA_SUBJECT_MISSING": "true",
    "OCI_DATA_NONDISTRIBUTABLE": "true",
}
"""Every optional part of the suite; those not named here are on by default."""

RUNS: Final[Mapping[str, Mapping[str, str]]] = {"1.1": {"OCI_VERSION": "1.1"}, "dev": EVERYTHING}
"""The suite's settings: as published for version 1.1, and the development rules with everything on.
"""

DISABLED: Final = {"1.1": 2, "dev": 0}
"""Cases that are not part of a run: version 1.1 does not cancel an upload, once for each digest
algorithm.
"""

CASES: Final = {"1.1": 840, "dev": 1000}
"""At least so many cases must have run, so that a suite that ends early does not pass."""

STORAGE: Final[Mapping[str, Mapping[str, Any]]] = {
    "filesystem": {},
    # Memory is one process's own, so one worker serves it.
    "inmemory": {"storage": {"filesystem": None, "inmemory": {}}, "http": {"workers": 1}},
}

SETTINGS: Final[Mapping[str, Any]] = {
    # Sparse manifests name what was not pushed; they are taken only when this is on.
    "validation": {"manifests": {"sparse": True}},
}


@pytest.fixture(scope="module", params=[pytest.param(name, id=name) for name in STORAGE])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryUnderTest]:
    settings = {**SETTINGS, **STORAGE[request.param]}
    with RegistryUnderTest(tmp_path_factory.mktemp("conformance"), settings=settings) as running:
        yield running
        assert running.complaints() == []


def counts(suite: ET.Element) -> dict[str, int]:
    names = ("tests", "failures", "errors", "skipped", "disabled")
    return {name: int(suite.get(name, "0")) for name in names}


def not_passed(suite: ET.Element) -> list[str]:
    """Return the name of each case that did not pass, but for those that this run leaves out."""
    return [
        f"{case.get('status')}: {case.get('name')}"
        for case in suite.iter("testcase")
        if case.get("status") != "passed"
        and "disabled in the configuration" not in case.findtext("system-err", "")
    ]


def told_of_failures(stdout: str) -> str:
    """Return what the suite said, without the cases that passed."""
    cases = stdout.partition("\nConfiguration:")[0].splitlines()
    return "\n".join(line for line in cases if not line.endswith(": Pass"))[:TOLD]


@pytest.mark.parametrize("version", [pytest.param(name, id=name) for name in RUNS])
def test_every_case_passes(
    registry: RegistryUnderTest,
    version: str,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
) -> None:
    results = tmp_path / "results"
    settings = {
        **RUNS[version],
        "OCI_REGISTRY": registry.address,
        "OCI_TLS": "disabled",
        "OCI_RESULTS_DIR": str(results),
        "OCI_REPO1": f"conformance/{version}/one",
        "OCI_REPO2": f"conformance/{version}/two",
    }
    done = attempt("conformance", env=settings, cwd=tmp_path, seconds=SUITE_SECONDS)
    suite = ET.parse(results / "junit.xml").getroot().find("testsuite")
    assert suite is not None, done.stdout
    total = counts(suite)
    told = yaml.safe_load((results / "results.yaml").read_text())
    parts = Counter({**told["apis"], **told["data"]}.values())
    said = ", ".join(f"{number} {name}" for name, number in total.items())
    record_testsuite_property(f"conformance {request.node.callspec.id}", said)
    print(said)
    assert not_passed(suite) == [], told_of_failures(done.stdout)
    assert (total["failures"], total["errors"], total["skipped"]) == (0, 0, 0)
    assert total["disabled"] == DISABLED[version]
    assert total["tests"] > CASES[version]
    assert set(parts) <= {"Pass", "Disabled"}
    assert done.returncode == 0, done.stderr
