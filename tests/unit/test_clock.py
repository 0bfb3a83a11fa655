from datetime import timedelta

from dockyard.clock import utc_now


def test_utc_now_is_aware_and_in_utc() -> None:
    assert utc_now().utcoffset() == timedelta(0)
