"""The section ``audit``."""

import pytest
from pydantic import ValidationError

from dockyard.config.audit import AuditSettings


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"enabled": True}, "is enabled, but has no path"),
        ({"path": "audit.log"}, "must be an absolute path"),
        ({"maxfiles": 0}, "must be from 1 to 1000"),
        ({"maxsize": -1}, "must not be negative"),
    ],
)
def test_what_can_not_be_meant_is_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        AuditSettings.model_validate(given)


def test_it_is_off_unless_asked_for() -> None:
    assert not AuditSettings().enabled
