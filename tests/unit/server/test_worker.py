from dockyard.server.limits import ConnectionLimits
from dockyard.server.worker import share_of


def test_connections_are_shared_out_within_the_descriptors() -> None:
    limits = ConnectionLimits(connections=10)
    assert share_of(limits, 3, 1 << 20).connections == 4
    assert share_of(limits, 1, 74).connections == 5
    assert share_of(limits, 1, 10).connections == 1
