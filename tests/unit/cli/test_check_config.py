from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from dockyard.cli.check_config import check_config


def run(path: Path, text: str, *options: str, **environ: str) -> Result:
    file = path / "config.yml"
    file.write_text(text)
    return CliRunner().invoke(check_config, [str(file), *options], env=environ)


def test_the_effective_configuration_is_printed(tmp_path: Path) -> None:
    result = run(tmp_path, "version: 0.1\nstorage: inmemory\n", REGISTRY_HTTP_ADDR=":7")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith(f"# effective configuration, from {tmp_path}/config.yml\n")
    assert yaml.safe_load(result.stdout)["http"]["addr"] == ":7"


def test_errors_go_to_standard_error_and_fail(tmp_path: Path) -> None:
    result = run(tmp_path, "version: 0.1\nloglevel: loud\nstorage: inmemory\nhttp: {net: x}\n")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        (
            f"error: {tmp_path}/config.yml:2: loglevel: invalid loglevel loud "
            "Must be one of [error, warn, info, debug]"
        ),
        f"error: {tmp_path}/config.yml:4: http.net: unknown address type x; one of tcp, unix",
    ]
    assert result.stdout == (
        "warning: line 2: loglevel is the old name of log.level, whose value is used\n"
    )


@pytest.mark.parametrize(
    "text",
    ["htp: 1", "loglevel: warn", "http: {secret: hunter2}"],
    ids=["unknown", "old", "ignored"],
)
def test_warnings_fail_only_when_strict(tmp_path: Path, text: str) -> None:
    text = f"version: 0.1\nstorage: inmemory\n{text}\n"
    relaxed, strict = run(tmp_path, text), run(tmp_path, text, "--strict")
    assert (relaxed.exit_code, strict.exit_code) == (0, 1)
    assert relaxed.stdout == strict.stdout
    assert relaxed.stdout.startswith("warning: line 3: ")
    assert "hunter2" not in relaxed.output


def test_strict_is_content_without_warnings(tmp_path: Path) -> None:
    assert run(tmp_path, "version: 0.1\nstorage: inmemory\n", "--strict").exit_code == 0


def test_without_a_file_it_is_what_serve_would_find(tmp_path: Path) -> None:
    file = tmp_path / "other.yml"
    file.write_text("version: 0.1\nstorage: inmemory\nhttp: {addr: ':9'}\n")
    result = CliRunner().invoke(check_config, [], env={"REGISTRY_CONFIGURATION_PATH": str(file)})
    assert yaml.safe_load(result.stdout)["http"]["addr"] == ":9"


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(check_config, [str(tmp_path / "none.yml")])
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {tmp_path}/none.yml: can't read the configuration: No such file or directory\n"
    )
