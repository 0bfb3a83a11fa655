"""helm: a chart is pushed, pulled, shown and rendered."""

from pathlib import Path

import pytest

from tests.parts.programs import run
from tests.parts.registries import RegistryUnderTest
from tests.registry_client import RegistryClient


pytestmark = pytest.mark.slow  # helm takes minutes to build


def test_a_chart_is_pulled_as_it_was_pushed(
    registry: RegistryUnderTest, client: RegistryClient, repository: str, tmp_path: Path
) -> None:
    def helm(*arguments: str | Path) -> str:
        return run("helm", *arguments, env={"HOME": str(tmp_path)}, cwd=tmp_path)

    (tmp_path / "pulled").mkdir()
    helm("create", "chart")
    helm("package", "chart")
    url = f"oci://{registry.address}/{repository}"
    helm("push", "chart-0.1.0.tgz", url, "--plain-http")
    chart = f"{url}/chart"
    helm("pull", chart, "--version", "0.1.0", "--plain-http", "--destination", tmp_path / "pulled")
    pushed, pulled = (tmp_path / "chart-0.1.0.tgz", tmp_path / "pulled" / "chart-0.1.0.tgz")
    assert pulled.read_bytes() == pushed.read_bytes()
    assert "version: 0.1.0" in helm(
        "show", "chart", chart, "--plain-http"
    )  # the newest of its tags
    assert "kind: Deployment" in helm("template", "x", chart, "--version", "0.1.0", "--plain-http")
    assert client.tags(f"{repository}/chart") == ["0.1.0"]
