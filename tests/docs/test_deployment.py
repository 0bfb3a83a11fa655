"""What `deploy/` grants is the least that the registry needs."""

import configparser
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typing_extensions import override


DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"


class Repeating(dict[str, Any]):
    """A section of a unit in which a key may come again: each adds to it."""

    @override
    def __setitem__(self, key: str, value: Any) -> None:
        if key in self and isinstance(value, list):
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


@pytest.fixture(scope="module")
def service() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(dict_type=Repeating, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "dockyard.service")
    return parser["Service"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("User", "registry"),
        ("Group", "registry"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("ProtectSystem", "strict"),
        ("ReadWritePaths", "/var/lib/registry"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictNamespaces", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("SystemCallFilter", "@system-service\n~@privileged"),
    ],
)
def test_the_unit_runs_with_nothing_that_it_does_not_need(
    service: configparser.SectionProxy, key: str, value: str
) -> None:
    assert service[key] == value


def test_the_image_runs_as_a_user_of_its_own() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    (user,) = [line for line in lines if line.startswith("USER ")]
    name = user.removeprefix("USER ")
    assert name not in {"root", "0"}
    assert re.search(
        rf"useradd --uid [1-9]\d* .*--shell /usr/sbin/nologin {name}\b", "\n".join(lines)
    )
    assert not [line for line in lines[lines.index(user) :] if line.startswith(("RUN", "COPY"))]


def test_compose_takes_everything_away_and_binds_to_the_loopback() -> None:
    document = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    service = document["services"]["registry"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(str(port).startswith("127.0.0.1:") for port in service["ports"])
    assert "cap_add" not in service
    assert "privileged" not in service
